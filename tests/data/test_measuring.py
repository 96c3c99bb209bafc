"""Operators in words, and measurements in files: what each word means, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.measured import in_files, measured_in, measured_of, observed_of, truth_of
from kakusan.data.measuring import OPERATORS, operator_named
from kakusan.data.units import Levels, Real
from kakusan.errors import DataError, KakusanError, SettingsError
from kakusan.operators import (
    Blur,
    Fourier,
    Identity,
    Linear,
    Mask,
    Matrix,
    Operator,
    Radon,
    function,
    stacked,
)

GREY, COLOUR, SIGNAL = (1, 6, 8), (3, 6, 8), (2, 10)
Shape = tuple[int, ...]


def sample(shape: Shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def known(text: str, shape: Shape = GREY) -> NDArray[np.bool_]:
    """The space that a mask leaves."""
    mask = operator_named(text, shape)
    assert isinstance(mask, Mask)
    return np.asarray(mask.is_measured(shape)[0])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a file for each kind of operator that takes one."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "m.npy", rng.random((6, 8)) > 0.5)
    np.save(tmp_path / "k.npy", rng.random((3, 3)))
    np.save(tmp_path / "A.npy", rng.standard_normal((5, 144)))
    np.save(tmp_path / "angles.npy", np.array([0.0, 30.0, 77.5]))
    white = np.zeros((6, 8), np.uint8)
    white[:, 5:] = 255
    Image.fromarray(white).save(tmp_path / "m.png")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("blur:k.npy:foo", "edges are reflect, periodic, zero, not 'foo'"),
        ("blur:k.npy:zero:foo", "it takes 2 parts after the name, and 'foo' is one too many"),
        ("gauss:1.5:zero:3", "'3' is one too many"),
        ("mask:hide-left:3", "it takes 1 part after the name, and '3' is one too many"),
        ("mask:random:0.9:7:1", "it takes 3 parts after the name, and '1' is one too many"),
        ("mask:m.png:foo", "'foo' is one too many"),
        ("down:4:2", "'2' is one too many"),
        ("fourier:4:7:1", "'1' is one too many"),
        ("fourier:m.npy:7", "it takes 1 part after the name, and '7' is one too many"),
        ("matrix:A.npy:7", "'7' is one too many"),
        ("radon:angles.npy:7", "'7' is one too many"),
        ("magnitude:2:1", "'1' is one too many"),
        ("clip:0:200:7", "it takes 2 parts after the name, and '7' is one too many"),
        ("quantize:32:1", "'1' is one too many"),
        ("crop:0:4:2,0:4", "a box is a range for each axis"),
        ("identity:2", "the sample itself has no options"),
    ],
)
def test_a_part_too_many_is_one_error_that_says_what_the_word_takes(
    text: str, says: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(SettingsError) as told:
        operator_named(text, GREY)
    assert told.value.problem == f"{text}: {told.value.problem.removeprefix(f'{text}: ')}"
    assert says in told.value.problem
    assert told.value.advice[-1].startswith(f"such as: {text.partition(':')[0]}")


def test_a_file_may_have_a_colon_in_its_name(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    (files / "k.npy").rename("a:k.npy")
    (files / "m.npy").rename("a:m.npy")
    assert isinstance(operator_named("blur:a:k.npy", GREY), Blur)
    assert isinstance(operator_named("blur:a:k.npy:periodic", GREY), Blur)
    assert isinstance(operator_named("mask:a:m.npy", GREY), Mask)


FORMS = [form for named in OPERATORS.values() for form in named.forms if "FILE" not in form]


@pytest.mark.parametrize("form", FORMS)
def test_every_example_is_an_operator_that_keeps_the_contract(form: str) -> None:
    """Each sample by itself, in its type; a linear one is linear and has its adjoint, any other its derivative."""
    shape = (2, 32, 32)
    operator = operator_named(form, shape)
    measured = operator.measured_shape(shape)
    x, v, w = 100 * sample(shape), sample(shape, 1), sample(measured, 2)
    y = operator(x)
    assert y.shape == (2, *measured)
    assert torch.allclose(operator(x[1:]), y[1:], rtol=1e-12)
    assert operator(x.float()).dtype == torch.float32
    kept = operator.is_measured(shape)
    assert kept is None or (tuple(kept.shape) == measured and kept.dtype == torch.bool)
    along = operator.derivative(x)
    assert torch.allclose((along.apply(v) * w).sum(), (v * along.adjoint(w)).sum(), rtol=1e-9)
    if isinstance(operator, Linear):
        assert torch.allclose(operator(x - 3 * v), y - 3 * operator(v), rtol=1e-9, atol=1e-9)
    elif not torch.as_tensor(operator.rounding(shape)).any():
        step = (operator(x + 1e-5 * v) - operator(x - 1e-5 * v)) / 2e-5
        assert torch.allclose(along.apply(v), step, rtol=1e-5, atol=1e-6)


def test_the_word_says_what_is_hidden(files: Path) -> None:
    assert known("mask:hide-left").tolist() == [[False] * 4 + [True] * 4] * 6
    assert known("mask:hide-right").tolist() == [[True] * 4 + [False] * 4] * 6
    assert known("mask:hide-top")[:, 0].tolist() == [False] * 3 + [True] * 3
    assert known("mask:hide-bottom")[:, 0].tolist() == [True] * 3 + [False] * 3
    assert known("mask:hide-left", SIGNAL).tolist() == [False] * 5 + [True] * 5
    assert known("mask:hide-left", (1, 7)).tolist() == [False] * 3 + [True] * 4
    middle = known("mask:hide-center")
    assert (~middle).sum() == 3 * 4
    assert not middle[1:4, 2:6].any()
    assert known(f"mask:{files / 'm.png'}").tolist() == [[False] * 5 + [True] * 3] * 6
    assert np.array_equal(known(f"mask:{files / 'm.npy'}"), np.load(files / "m.npy"))


def test_a_random_mask_hides_a_share_of_the_pixels_of_all_channels_and_is_of_a_seed() -> None:
    mask = operator_named("mask:random:0.75", COLOUR)
    assert isinstance(mask, Mask)
    left = mask.is_measured(COLOUR)
    assert left.sum() == 3 * 12
    assert torch.equal(left[0], left[2])
    assert np.array_equal(known("mask:random:0.75"), known("mask:random:0.75:0"))
    assert not np.array_equal(known("mask:random:0.75:1"), known("mask:random:0.75"))
    assert known("mask:random:0.5", (2,)).sum() == 1


def test_a_mask_may_be_an_array() -> None:
    array = np.array([[True, False]])
    mask = Mask(array)  # type: ignore[arg-type]
    array[:] = False
    assert mask.known.tolist() == [[True, False]]


def test_a_share_may_be_a_percentage() -> None:
    assert (known("mask:random:50%") == known("mask:random:0.5")).all()


def test_words_follow_each_other_and_plus_sets_side_by_side(files: Path) -> None:
    x = sample(GREY)
    blur, down = operator_named("gauss:0.7:periodic", GREY), operator_named("down:2", GREY)
    whole = operator_named(["gauss:0.7:periodic", "down:2", "magnitude"], GREY)
    expected = np.abs(np.fft.fftn(down(blur(x)).numpy(), axes=(2, 3), norm="ortho"))
    assert np.allclose(whole(x), expected)
    both = operator_named(f"mask:{files / 'm.png'}+down:2+radon:3", GREY)
    assert isinstance(both, Linear)
    assert both.measured_shape(GREY) == (48 + 12 + 3 * 10,)
    assert torch.equal(both(x)[:, 48:60], down(x).flatten(1))
    last = operator_named(["down:2", "clip:-1:1+quantize:0.5"], GREY)
    assert last.measured_shape(GREY) == (24,)


def test_each_word_is_its_operator(files: Path) -> None:
    x = sample(COLOUR)

    def of(text: str, shape: Shape = COLOUR) -> Operator:
        return operator_named(text, shape)

    assert torch.equal(of("crop:1:4,2:")(x), x[:, :, 1:4, 2:])
    assert of("down:2x4").measured_shape(COLOUR) == (3, 3, 2)
    blur = of(f"blur:{files / 'k.npy'}:zero")
    assert isinstance(blur, Blur)
    assert blur.edges == "zero"
    assert np.array_equal(blur.kernel, np.load(files / "k.npy"))
    assert torch.equal(of("clip:-inf:0.5")(x), x.clamp(max=0.5))
    assert torch.allclose(of("quantize:0.5")(x), (x * 2).round() / 2)
    radon = of(f"radon:{files / 'angles.npy'}")
    assert isinstance(radon, Radon)
    assert radon.angles == (0.0, 30.0, 77.5)
    assert of("radon:4").measured_shape(COLOUR) == (3, 4, 10)
    assert of("magnitude:2").measured_shape(COLOUR) == (3, 12, 16)
    assert {"mask", "crop", "blur", "gauss", "down", "fourier", "matrix", "radon"} < {*OPERATORS}


def test_an_acceleration_keeps_whole_lines_of_the_lowest_frequencies_and_some_others() -> None:
    operator = operator_named("fourier:4", (1, 8, 64))
    assert isinstance(operator, Fourier)
    lines = operator.kept
    assert lines.shape == (8, 64)
    assert torch.equal(lines, lines[:1].expand(8, 64))
    assert lines[0].sum() == 16
    assert lines[0, [0, 1, 2, -1, -2]].all()  # 5 are 8 % of 64
    assert not torch.equal(lines, operator_named("fourier:4:1", (1, 8, 64)).kept)  # type: ignore[attr-defined]


def test_the_columns_of_a_matrix_are_in_the_order_of_a_file(files: Path) -> None:
    """A[:, k] belongs to array.ravel()[k], whose channels are last, whether it is dense or sparse."""
    matrix, x = np.load(files / "A.npy"), sample(COLOUR)
    in_files = x.movedim(1, -1).reshape(2, -1).numpy()
    assert np.allclose(operator_named(f"matrix:{files / 'A.npy'}", COLOUR)(x), in_files @ matrix.T)
    first = operator_named(f"matrix:{files / 'A.npy'}", COLOUR, layout="channels-first")
    assert np.allclose(first(x), x.flatten(1).numpy() @ matrix.T)
    sparse = np.where(np.random.default_rng(1).random(matrix.shape) < 0.1, matrix, 0)
    rows, columns = np.nonzero(sparse)
    data, size = sparse[rows, columns], np.array(sparse.shape)
    np.savez(files / "coo.npz", format=np.array("coo", "S3"), shape=size, data=data, row=rows, col=columns)
    starts = np.concatenate([[0], np.cumsum((sparse != 0).sum(1))])
    csr: dict[str, Any] = {"format": np.array("csr", "S3"), "shape": size, "data": data}
    np.savez(files / "csr.npz", **csr, indices=columns, indptr=starts)
    by_column = np.argsort(columns, kind="stable")
    ends = np.concatenate([[0], np.cumsum((sparse != 0).sum(0))])
    csc: dict[str, Any] = {"format": np.array("csc", "S3"), "shape": size, "data": data[by_column]}
    np.savez(files / "csc.npz", **csc, indices=rows[by_column], indptr=ends)
    for name in ("coo", "csr", "csc"):
        operator = operator_named(f"matrix:{files / name}.npz", COLOUR)
        assert isinstance(operator, Matrix)
        assert operator.matrix.is_sparse
        assert np.allclose(operator(x), in_files @ sparse.T)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("masc:hide-left", "did you mean mask:hide-left"),
        ("sharpen", "operators are mask, crop"),
        ([], "no operator is named"),
        ("mask:left", "mask:hide-left hides it"),
        ("mask:nowhere.png", "no such file"),
        ("mask:hide-lft", r"no such file as hide-lft\n.*did you mean mask:hide-left\?"),
        ("mask:randm:0.9", r"did you mean mask:random:0\.9\?"),
        ("identity:3", "no options"),
        ("mask:nowhere.npy", r"nowhere\.npy cannot be read: No such file"),
        ("mask:random:1", "leaves some of 48"),
        ("mask:random:0", "leaves some"),
        ("mask:random:many", "a number is needed"),
        ("mask:random:0.5:x", "a whole number is needed"),
        ("crop:1:3", "need 2 ranges"),
        ("crop:1:3,4", "FIRST:END"),
        ("crop:1:3,4:20", "no box"),
        ("gauss:-1", "gauss:-1: the deviation of a Gaussian blur is above 0"),
        ("gauss:1 down:2", r"as a list: \['gauss:1', 'down:2'\]"),
        ("gauss:", "missing after the colon"),
        ("gauss", "missing after the colon"),
        ("gauss:1.5:foo", "edges are reflect, periodic, zero, not 'foo'"),
        ("quantize", "missing after the colon"),
        ("mask:random", "missing after the colon"),
        ("mask:random:150%", "leaves some of 48"),
        ("down:5", "down:5: down-sampling by 5 is for samples whose sides it divides"),
        ("down:0", "at least 1"),
        ("fourier:100", "acceleration lies between"),
        ("radon:x", "whole number"),
        ("radon:0", "at least 1 angle"),
        ("radon:1000000000", "10,000 is the most"),
        ("magnitude:1000000000", "16 is the most"),
        ("gauss:1e9", "wider than samples of 8"),
        ("mask", "missing after the colon"),
        ("blur", "missing after the colon"),
        ("matrix:", "missing after the colon"),
        ("clip:3", "two ends"),
        ("clip:3:2", "from low to high"),
        ("quantize:0", "above 0"),
        (["quantize:2", "gauss:1"], "a rounding comes last"),
        (["down:2", "crop:0:6,0:6"], "no box in samples of sides"),
        (["down:6x8", "mask:random:0.5"], "leaves some of 1"),
    ],
)
def test_what_is_no_operator_is_one_clear_error(
    words: Any, says: str, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KakusanError, match=says):
        operator_named(words, GREY)


def test_bad_files_of_operators_are_named(files: Path) -> None:
    def refused(text: str, says: str, shape: Shape = GREY) -> None:
        with pytest.raises(KakusanError, match=says) as error:
            operator_named(text.format(files), shape)
        assert str(files) in str(error.value)

    Image.fromarray(np.zeros((6, 8), np.uint8)).save(files / "black.png")
    refused("mask:{}/black.png", "all of .* is black")
    Image.fromarray(np.full((6, 8), 128, np.uint8)).save(files / "grey.png")
    refused("mask:{}/grey.png", "all of .* is black or grey")  # as `kakusan edit --mask` has it
    refused("mask:{}/m.png", "6 high and 8 wide, and a mask here is 4 by 4", (1, 4, 4))
    np.save(files / "none.npy", np.zeros((6, 8), bool))
    refused("mask:{}/none.npy", "nothing is there")
    np.save(files / "bytes.npy", 255.0 * np.eye(6, 8))
    refused("mask:{}/bytes.npy", "zeros beside other numbers than 1")
    np.save(files / "two.npy", np.ones((2, 6, 8), bool))
    refused("mask:{}/two.npy", "holds 2 masks")
    (files / "torn.npz").write_bytes(b"PK\x03\x04 no more")
    refused("matrix:{}/torn.npz", "cannot be read")
    refused("blur:{}/torn.npz", "cannot be read")
    (files / "empty.npy").write_bytes(b"")
    refused("matrix:{}/empty.npy", "cannot be read")
    refused("matrix:{}/A.npy", "5 x 144 is for samples of 144 values")
    np.savez(
        files / "bad.npz", shape=np.array([2, 3]), data=np.ones(2), row=np.array([0, 5]), col=np.array([0, 1])
    )
    refused("matrix:{}/bad.npz", "an entry lies outside")
    np.savez(files / "half.npz", shape=np.array([2, 3]), data=np.ones(2))
    refused("matrix:{}/half.npz", "holds no matrix")
    np.save(files / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused("blur:{}/pickled.npy", "never loaded")
    np.save(files / "words.npy", np.array(["a"]))
    refused("blur:{}/words.npy", "not numbers")
    refused("fourier:{}/k.npy", "booleans")
    refused("radon:{}/k.npy", "no list of angles")
    np.save(files / "dark.npy", np.zeros((3, 3)))
    refused("blur:{}/dark.npy", "all of the kernel is 0")
    np.savez(files / "several.npz", A=np.ones((5, 48)), b=np.ones(5))
    refused("matrix:{}/several.npz", "a dense one is the only array of its file.*\n.*arrays in it: A, b")


# measurements


def files_of(y: torch.Tensor) -> NDArray[np.float64]:
    """As in a file: channels last."""
    return y.movedim(1, -1).numpy()


def test_y_is_read_in_the_axes_of_the_data(tmp_path: Path) -> None:
    operator, units = operator_named("down:2", COLOUR), Levels()
    y = operator(sample(COLOUR))
    path = tmp_path / "y.npy"

    def read(array: NDArray[Any], layout: Any = "auto") -> torch.Tensor:
        np.save(path, array)
        return measured_in(path, operator, COLOUR, units, layout=layout)

    assert torch.equal(read(files_of(y)), y)
    assert torch.equal(read(files_of(y)[0]), y[:1])
    assert torch.equal(read(y.numpy()), y)
    assert torch.equal(read(y.numpy(), "channels-first"), y)
    grey = operator_named("down:2", GREY)
    one = grey(sample(GREY))
    for array in (one.numpy(), files_of(one), one[:, 0].numpy()):
        assert torch.equal(measured_of(array, grey, GREY, "y"), one)
    assert torch.equal(measured_of(one[0, 0].numpy(), grey, GREY, "y"), one[:1])
    gone = files_of(y).copy()
    gone[0, 0, 0, 0] = np.nan
    assert read(gone).isnan().sum() == 1


def test_square_measurements_of_one_channel_are_several_where_the_axes_say_so() -> None:
    """Of (n, h, w) the first axis counts; a single (h, w) has none, even where h is w."""
    shape = (1, 4, 4)
    operator = operator_named("mask:hide-left", shape)
    assert measured_of(np.zeros((4, 4, 4)), operator, shape, "y").shape == (4, 1, 4, 4)
    assert measured_of(np.zeros((4, 4)), operator, shape, "y").shape == (1, 1, 4, 4)


def test_complex_numbers_become_two_channels() -> None:
    x = sample(COLOUR)
    operator = operator_named("fourier:1", COLOUR)
    transform = np.fft.fftn(x.numpy(), axes=(2, 3), norm="ortho")
    y = measured_of(np.moveaxis(transform, 1, -1), operator, COLOUR, "y")
    assert torch.allclose(y, operator(x), atol=1e-12)
    single = operator_named("fourier:1", GREY)
    assert measured_of(transform[0, 0], single, GREY, "y").shape == (1, 2, 6, 8)
    with pytest.raises(DataError, match="as real numbers"):
        measured_of(transform[:, 0], operator_named("magnitude", GREY), GREY, "y")


def test_masked_complex_numbers_are_not_measured_in_both_halves() -> None:
    transform = np.ma.masked_array(np.ones((6, 8), complex), np.eye(6, 8, dtype=bool))
    y = measured_of(transform, operator_named("fourier:1", GREY), GREY, "y")
    assert y.isnan().sum((2, 3)).tolist() == [[6, 6]]


def test_a_single_number_of_each_sample_is_read(tmp_path: Path) -> None:
    mean = function(lambda x: x.mean((1, 2, 3)), linear=True)
    assert measured_of(np.array(0.5), mean, GREY, "y").tolist() == [0.5]
    assert measured_of(np.array([0.5, 0.7]), mean, GREY, "y").tolist() == [0.5, 0.7]
    for array in (np.zeros((2, 3)), np.zeros(2, dtype=np.complex128)):
        with pytest.raises(DataError, match=r"the operator gives \(\) of each sample"):
            measured_of(array, mean, GREY, "y")
    np.savez(tmp_path / "y.npz", np.zeros((2, 3, 4)), np.ones(2))
    both = stacked(operator_named("down:2", GREY), mean)
    assert measured_in(tmp_path / "y.npz", both, GREY, Levels()).shape == (2, 13)
    Image.new("L", (8, 6)).save(tmp_path / "y.png")
    with pytest.raises(DataError, match="no picture holds"):
        measured_in(tmp_path / "y.png", mean, GREY, Levels())


def test_the_parts_of_a_stack_may_be_arrays_of_their_own(tmp_path: Path) -> None:
    operator = operator_named("fourier:1+down:2", COLOUR)
    x = sample(COLOUR)
    y = operator(x)
    transform = np.moveaxis(np.fft.fftn(x.numpy(), axes=(2, 3), norm="ortho"), 1, -1)
    np.savez(tmp_path / "y.npz", transform, files_of(operator_named("down:2", COLOUR)(x)))
    assert torch.allclose(measured_in(tmp_path / "y.npz", operator, COLOUR, Levels()), y, atol=1e-12)
    np.savez(tmp_path / "whole.npz", observed=y.numpy(), other=np.zeros(3))
    assert torch.allclose(measured_in(tmp_path / "whole.npz", operator, COLOUR, Levels()), y, atol=1e-12)


def test_a_picture_is_on_the_levels_of_the_run(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = tmp_path / "y.png"
    Image.fromarray(pixels).save(path)
    mask = operator_named("mask:hide-left", COLOUR)
    for levels in (256, 16):
        y = measured_in(path, mask, COLOUR, Levels(levels))
        assert np.allclose(y[0].movedim(0, -1), pixels.astype(np.float64) * (levels - 1) / 255)

    def refused(operator: Operator, shape: Shape, units: Any, says: str) -> None:
        with pytest.raises(DataError, match=says):
            measured_in(path, operator, shape, units)

    refused(mask, COLOUR, Real((0.0,), (1.0,)), "in the units of the data")
    refused(
        operator_named("down:2", COLOUR),
        COLOUR,
        Levels(),
        "6 high and 8 wide, and a measurement here is 3 by 4",
    )
    refused(operator_named("fourier:2", COLOUR), COLOUR, Levels(), "no picture holds")
    colours = np.zeros((6, 8, 3), np.uint8)
    Image.fromarray(colours + 7).save(tmp_path / "y.png")
    grey = measured_in(tmp_path / "y.png", operator_named("identity", GREY), GREY, Levels())
    assert (grey == 7).all()
    colours[0, 0] = 1, 2, 3
    Image.fromarray(colours).save(tmp_path / "y.png")
    refused(operator_named("identity", GREY), GREY, Levels(), "is in colour")
    refused(operator_named("mask:hide-left", SIGNAL), SIGNAL, Levels(), "no picture holds")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (
            np.zeros((5, 5)),
            r"has shape \(5, 5\), and the operator gives \(3, 4, 1\) or \(1, 3, 4\) or \(3, 4\)",
        ),
        (np.array(["a"]), "numbers"),
        (np.zeros((0, 3, 4)), "is empty"),
    ],
)
def test_a_measurement_of_another_shape_is_one_clear_error(array: NDArray[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        measured_of(array, operator_named("down:2", GREY), GREY, "y.npy")


def test_of_several_arrays_y_is_the_one_that_is_named_so(tmp_path: Path) -> None:
    path, ones = tmp_path / "y.npz", np.ones((6, 8))
    np.savez(path, mask=0 * ones, observed=ones)
    assert measured_in(path, Identity(), GREY, Levels()).eq(1).all()
    np.savez(path, mask=0 * ones, y=ones)
    with pytest.raises(DataError, match=r"y\.npz holds several arrays, and none is named observed: mask, y"):
        measured_in(path, Identity(), GREY, Levels())
    with pytest.raises(DataError, match="none is named truth: mask, y"):
        truth_of(path, GREY, Levels())


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "nothing was measured"), (np.inf, "a measured value is infinite")]
)
def test_y_that_says_nothing_is_named_with_its_file(tmp_path: Path, value: float, says: str) -> None:
    np.save(tmp_path / "y.npy", np.full((6, 8), value))
    with pytest.raises(DataError, match=rf"y\.npy: {says}"):
        observed_of(tmp_path / "y.npy", Identity(), GREY, Levels())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    readers: list[Callable[[], object]] = [
        lambda name=name: measured_in(tmp_path / name, operator_named("down:2", GREY), GREY, Levels())  # type: ignore[misc]
        for name in ("y.npy", "y.npz", "y.png")
    ]
    for read in readers:
        with pytest.raises(DataError, match="cannot be read"):
            read()
    with pytest.raises(SettingsError):
        operator_named("nothing", GREY)


@pytest.mark.parametrize("layout", ["auto", "channels-last", "channels-first", "single-channel"])
@pytest.mark.parametrize("word", ["mask:hide-left", "fourier:4", "radon:5", "mask:hide-left+down:2"])
def test_what_was_measured_is_written_in_the_axes_in_which_it_is_read(
    word: str, layout: Any, tmp_path: Path
) -> None:
    shape = (1, 6, 6) if layout == "single-channel" or word.startswith("radon") else (3, 6, 6)
    operator = operator_named(word, shape, layout=layout)
    y = operator(sample(shape))
    np.save(tmp_path / "y.npy", in_files(y, layout))
    again = measured_in(tmp_path / "y.npy", operator, shape, Levels(256), layout=layout)
    assert torch.equal(again, y)
