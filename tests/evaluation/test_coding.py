"""Images as bytes: the identity, at the length of the bound; and whatever the bytes are, one clear error."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import kakusan as kk
from kakusan.api import Run
from kakusan.cli import main
from kakusan.config.loading import with_values
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.likelihood import variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.schedules import Cosine
from kakusan.diffusion.variances import Analytic
from kakusan.errors import DataError, KakusanError, RunError, SettingsError
from kakusan.evaluation.coding import packing
from kakusan.evaluation.coding.bins import Bins, pop_all, push_all
from kakusan.evaluation.coding.calibration import decoded, encoded
from kakusan.evaluation.coding.chain import Chain, batches
from kakusan.evaluation.coding.container import (
    MAGIC,
    Packed,
    _check,
    names_in,
    packed_names,
    read,
    read_file,
)
from kakusan.evaluation.coding.options import CodingOptions
from kakusan.evaluation.coding.packing import Compression, compress, decompress
from kakusan.evaluation.coding.plan import best_chains
from kakusan.evaluation.coding.stack import LOWEST, TOTAL, EmptyStackError, Stack
from kakusan.evaluation.coding.writing import Unpacked

SMALL = {
    "process.T": 40,
    "network.width": 8,
    "network.groups": 4,
    "training.steps": 60,
    "training.batch_size": 16,
    "samples.count": 2,
    "samples.steps": 2,
    "machine.threads": 1,
    "machine.device": "cpu",
}
COUNT = 120
FEW = ("--steps", "4")


def trained(folder: Path, source: str, **values: Any) -> Run:
    return kk.train(
        source, run=folder, settings=with_values(kk.settings_for(source), {**SMALL, **values}), progress=False
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("coding") / "run", "digits")


@pytest.fixture(scope="module")
def images(run: Run) -> NDArray[np.uint8]:
    prepared = run.prepared()
    return prepared.dataset.gather(prepared.split.held_out[:COUNT])


@pytest.fixture(scope="module")
def file(run: Run, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    np.savez(folder / "x.npz", images=images, levels=np.array(17))
    assert main(["compress", str(run.folder), str(folder / "x.npz"), str(folder / "x.kks"), *FEW]) == 0
    return folder / "x.kks"


@given(st.lists(st.tuples(st.integers(0, TOTAL - 1), st.integers(1, TOTAL)), max_size=50))
def test_what_is_pushed_is_popped_and_a_stack_is_as_long_as_its_probabilities_say(
    symbols: list[tuple[int, int]],
) -> None:
    symbols = [(start, min(size, TOTAL - start)) for start, size in symbols]
    stack = Stack(seed=None)
    for start, size in symbols:
        stack.push(start, size)
    bits = sum(math.log2(TOTAL / size) for _, size in symbols)
    assert abs(len(stack.words) * 32 + math.log2(stack.state / LOWEST) - bits) < 1e-6 * len(symbols) + 1e-9
    for start, size in reversed(symbols):
        assert start <= stack.slot < start + size
        stack.pop(start, size)
    assert (stack.state, stack.words) == (LOWEST, [])


def test_an_empty_stack_lends_words_of_its_seed_and_says_when_it_has_them_back() -> None:
    stack, bins = Stack(seed=3), Bins.around_0(8, 0.5)
    drawn = pop_all(stack, bins, [0.0] * 500, [1.0] * 500)
    assert abs(np.mean(drawn) - 15.5) < 0.4  # N(0, 1) in bins of 1/2: 4 standard errors
    assert not stack.is_as_begun(3)
    push_all(stack, bins, drawn, [0.0] * 500, [1.0] * 500)
    assert stack.is_as_begun(3)
    assert not stack.is_as_begun(4)
    with pytest.raises(EmptyStackError):
        pop_all(Stack(seed=None), bins, [0.0] * 500, [1.0] * 500)


@given(
    st.integers(0, TOTAL - 1),
    st.floats(-50, 50),
    st.floats(1e-10, 1e3),
    st.sampled_from([Bins.of_levels(2), Bins.of_levels(256), Bins.around_0(9, 0.01)]),
)
def test_every_slot_belongs_to_one_bin_whatever_the_law(
    slot: int, mean: float, deviation: float, bins: Bins
) -> None:
    number = bins.at(slot, mean, deviation)
    assert bins.below(number, mean, deviation) <= slot < bins.below(number + 1, mean, deviation)
    assert bins.below(0, mean, deviation) == 0
    assert bins.below(bins.count, mean, deviation) == TOTAL


def test_the_frequencies_of_levels_are_those_of_the_decoder() -> None:
    levels, law = 17, Gaussian(torch.tensor([[0.31]]), torch.tensor(0.02, dtype=torch.float64))
    bins = Bins.of_levels(levels)
    found = [
        (bins.below(k + 1, 0.31, 0.02**0.5) - bins.below(k, 0.31, 0.02**0.5)) / TOTAL for k in range(levels)
    ]
    wanted = [
        float(law.log_mass(torch.tensor([[2 * k / (levels - 1) - 1]]), levels).exp()) for k in range(levels)
    ]
    assert np.abs(np.array(found) - wanted).max() < 2.0**-12  # what all levels have alike
    with pytest.raises(SettingsError, match="bins are too many"):
        Bins.around_0(80, 1e-9)


def test_the_best_chains_are_those_of_all_that_there_are() -> None:
    costs = torch.rand(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    costs = costs.masked_fill(torch.ones(9, 9).triu().bool(), math.inf)
    found = best_chains(costs, 8)
    assert [len(places) for _, places in found] == list(range(1, 9))
    for steps, (bits, places) in enumerate(found, 1):
        ways = [(0, *inner, 8) for inner in combinations(range(1, 8), steps - 1)]
        least = min(sum(float(costs[b, a]) for a, b in pairwise(way)) for way in ways)
        assert bits == pytest.approx(least, abs=1e-12)
        assert places == sorted(places)


def test_errors_have_codes_an_eighth_of_an_octave_apart() -> None:
    errors = torch.logspace(-8, 0.5, 50, dtype=torch.float64)
    off = decoded(encoded(errors.tolist())).log2() - errors.log2()
    assert off.abs().max() <= 1 / 16 + 1e-12
    assert encoded([0.0, 1e9]) == bytes([255, 0])


@pytest.mark.parametrize("T", [6, 12])
def test_the_images_of_an_exact_denoiser_take_their_bound(T: int) -> None:
    """Data that are N(0, 0.2^2) in 256 levels: the stack grows by the bound of Eq. (11), which is near the entropy."""
    oracle = GaussianOracle(Cosine(T), 0.0, 0.04)
    model = Model(oracle, variance=Analytic(oracle.errors()), levels=256)
    draws = oracle.sample(3000).view(300, 1, 2, 5)
    numbers = ((draws + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    chain, stack, measured = Chain(model, tuple(range(1, T + 1)), (1, 2, 5)), Stack(), 0.0
    for batch in batches(300, 1):
        measured += chain.push(stack, numbers[batch])
    bound = variational_bound(model, torch.from_numpy(numbers).double() / 127.5 - 1)
    wanted = bound.mean * numbers.size
    assert measured == pytest.approx(wanted, rel=0.02)  # both are of one draw each: 0.5 %
    assert wanted * 0.99 < len(stack) < wanted * 1.02
    for batch in reversed(batches(300, 1)):
        assert (chain.pop(stack, batch.stop - batch.start) == numbers[batch]).all()
    assert stack.is_as_begun(0)


def test_compressed_images_come_back_and_take_their_bound(
    run: Run, images: NDArray[np.uint8], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again.npz"
    assert main(["decompress", str(run.folder), str(file), str(out)]) == 0
    with np.load(out) as again:
        assert (again["images"] == images).all()
        assert int(again["levels"]) == 17


def test_hundreds_of_images_take_their_bound_and_little_more(run: Run) -> None:
    whole = run.prepared().dataset
    some = replace(whole, images=whole.images[:400])
    made = compress(run, some, CodingOptions(steps=3))
    assert made.image_bytes * 8 < made.bound * 1.02
    assert len(made.packed.to_bytes()) - made.image_bytes < 250
    assert (np.moveaxis(decompress(run, made.packed), 1, -1) == np.asarray(some.images)).all()


def test_the_figures_are_those_of_the_file(
    run: Run, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compress", str(run.folder), str(file.with_suffix(".npz")), str(tmp_path / "y.kks"), *FEW]
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (tmp_path / "y.kks").read_bytes() == file.read_bytes()  # the same images, the same bytes
    assert figures["bytes"] == file.stat().st_size
    assert figures["bits_per_dim"] == 8 * figures["bytes"] / (COUNT * 64)
    assert main(arguments) == 2  # it is there already


def test_a_folder_of_pictures_keeps_its_names(run: Run, images: NDArray[np.uint8], tmp_path: Path) -> None:
    shown = np.rint(images[:12] * (255 / 16)).astype(np.uint8)
    names = [f"class {i % 2}/写真-{i}.{'bmp' if i == 3 else 'png'}" for i in range(12)]
    for name, image in zip(names, shown, strict=True):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(tmp_path / "in" / name)
    assert main(["compress", str(run.folder), str(tmp_path / "in"), str(tmp_path / "in.kks"), *FEW]) == 0
    assert main(["decompress", str(run.folder), str(tmp_path / "in.kks"), str(tmp_path / "out")]) == 0
    written = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")
    )
    assert written == sorted(name.replace(".bmp", ".png") for name in names)
    for name, image in zip(names, shown, strict=True):
        again = np.asarray(Image.open(tmp_path / "out" / name.replace(".bmp", ".png")))
        assert (again == image[:, :, 0]).all()


def test_a_flipped_bit_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        with pytest.raises(DataError, match=r"damaged|holds no images|made by a newer"):
            read(bytes(changed), "x.kks")
    for end in (0, 3, len(MAGIC), 20, len(content) - 1):
        with pytest.raises(DataError):
            read(content[:end], "x.kks")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_one_sentence(content: bytes) -> None:
    for whole in (content, MAGIC + content, MAGIC + content + _check(MAGIC + content)):
        with pytest.raises(DataError):
            read(whole, "x.kks")


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 200))
def test_a_file_that_was_made_to_deceive_is_refused_or_read_but_does_nothing_else(
    run: Run, file: Path, place: int, change: int, cut: int
) -> None:
    content = bytearray(file.read_bytes()[:-8])
    place = place % 200 if place % 2 else place % len(content)  # half of them where it is no image
    content[max(place, len(MAGIC))] ^= change
    changed = bytes(content) if cut else bytes(content) + b"\xc0"
    with suppress(KakusanError):
        packed = read(changed + _check(changed), "x.kks")
        assert decompress(run, packed).shape[0] == packed.count


def odd(file: Path, **values: Any) -> bytes:
    """The file with some fields of other values, and a right checksum."""
    fields = msgspec.structs.asdict(read_file(file)) | values
    content = MAGIC + msgspec.msgpack.encode([*fields.values()])
    return content + _check(content)


@pytest.mark.parametrize(
    "values",
    [
        {"times": (40, 1)},
        {"times": ()},
        {"count": 0},
        {"count": 1 << 60},
        {"shape": (1 << 30, 1 << 30)},
        {"errors": b""},
        {"grouping": 99},
        {"state": bytes(12)},
        {"words": b"123"},
        {"levels": 1},
        {"pace": 0},
        {"threads": 0},
        {"threads": "one"},
    ],
    ids=str,
)
def test_fields_out_of_their_ranges_are_refused(file: Path, values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cannot be understood"):
        read(odd(file, **values), "x.kks")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": COUNT + 1}, "other last bits|damaged|other images"),
        ({"count": 1 << 24, "pace": 1}, "other last bits|damaged|other images"),
        ({"words": b""}, "ends before its images"),
        ({"times": tuple(range(1, 4)), "grouping": 0, "errors": b"123"}, "does not begin at T"),
        ({"made_with": "torch 9", "fingerprint": bytes(8)}, "other last bits"),
        ({"levels": 200}, "another run"),
    ],
    ids=str,
)
def test_a_file_that_lies_is_found_out(run: Run, file: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises((DataError, RunError), match=said):
        decompress(run, read(odd(file, **values), "x.kks"))


def test_names_that_lead_out_of_the_folder_are_refused(file: Path) -> None:
    packed = read_file(file)
    for name in (
        "../a.png",
        "/etc/a.png",
        "a/../b.png",
        "c:a.png",
        "a\\b.png",
        "",
        "a\n.png",
        "a/",
        ".. /a.png",
    ):
        names = packed_names([name] + [f"{i}.png" for i in range(1, COUNT)])
        with pytest.raises(DataError, match="names"):
            names_in(msgspec.structs.replace(packed, names=names), "x.kks")
    for names in (b"none", packed_names(["a.png"]), packed_names(["a.png"] * COUNT), b"x" * 9):
        with pytest.raises(DataError, match="names"):
            Unpacked.of(
                msgspec.structs.replace(packed, names=names), np.zeros((COUNT, 1, 8, 8), np.uint8), "x"
            )


def test_other_weights_are_refused(file: Path, tmp_path: Path) -> None:
    other = trained(tmp_path / "other", "digits", **{"training.seed": 1, "training.steps": 2})
    with pytest.raises(RunError, match="compressed with other weights"):
        decompress(other, read_file(file), "x.kks")
    kanji = trained(tmp_path / "kanji", "kanji", **{"training.steps": 2})
    with pytest.raises(RunError, match="another run"):
        decompress(kanji, read_file(file), "x.kks")


def test_another_machine_is_noticed_beforehand(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_fingerprint", lambda *_: b"elsewhe!")
    with pytest.raises(RunError, match="other last bits than here") as caught:
        decompress(run, read_file(file), "x.kks")
    assert "torch" in caught.value.advice[0]


def wrong_data(folder: Path, images: NDArray[np.uint8]) -> Iterator[tuple[str, str]]:
    """Sources, and what is wrong with them."""
    np.savez(folder / "large.npz", images=np.zeros((4, 9, 8, 1), np.uint8))
    yield "large.npz", "another size"
    np.savez(folder / "bright.npz", images=np.full((4, 8, 8, 1), 17, np.uint8))
    yield "bright.npz", "17 levels"
    np.savez(folder / "real.npz", images=np.random.default_rng(0).normal(size=(4, 8, 8, 1)))
    yield "real.npz", "17 levels"
    for name, mode, size in (("sizes", "L", 9), ("alpha", "LA", 8), ("grey", "L", 8)):
        (folder / name).mkdir()
        for i in range(2):
            Image.new(mode, (8 if i else size, 8), 30 if mode == "L" else (30, 90)).save(
                folder / name / f"{i}.png"
            )
    yield "sizes", "cannot be kept as it is"
    yield "alpha", "cannot be kept as it is"
    yield "grey", "evenly spaced"
    (folder / "twice").mkdir()
    for ending in ("png", "bmp"):
        Image.fromarray(images[0, :, :, 0] * 0).save(folder / "twice" / f"a.{ending}")
    yield "twice", "differ in their ending"


def test_what_could_not_be_kept_is_refused(run: Run, images: NDArray[np.uint8], tmp_path: Path) -> None:
    for name, said in wrong_data(tmp_path, images):
        with pytest.raises(DataError) as caught:
            compress(run, tmp_path / name)
        assert said in str(caught.value)
    with pytest.raises(SettingsError, match="1 to 40 steps"):
        CodingOptions(steps=41)


def test_the_same_bits_whatever_threads_were_set_before(run: Run, images: NDArray[np.uint8]) -> None:
    def made() -> Compression:
        few = replace(run.prepared().dataset, images=images[:20])
        return compress(run, few, CodingOptions(steps=3, threads=1))

    first = made().packed
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert made().packed == first
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert isinstance(first, Packed)
