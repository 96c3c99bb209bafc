"""Arrays in files: .npy and .npz, IDX, CIFAR-10's binary version; each against an array known beforehand."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data import open_data
from kakusan.data.units import Levels, Real
from kakusan.errors import DataError, SettingsError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)
FLOATS = (100 + 7 * RNG.standard_normal((50, 5, 4, 2))).astype(np.float32)
WITH_LABELS = DataSettings(labels=True)
FASHION = Path("/usr/share/datasets/fashion-mnist")


def npy(folder: Path, array: NDArray[Any]) -> Path:
    np.save(folder / "x.npy", array)
    return folder / "x.npy"


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def idx(path: Path, array: NDArray[Any], *, code: int = 8) -> Path:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_an_npy_file_of_bytes_is_mapped_and_not_copied(tmp_path: Path) -> None:
    data = open_data(npy(tmp_path, BYTES))
    assert np.array_equal(data.images, BYTES)
    assert data.shape == (3, 5, 4)
    assert data.units == Levels(256)
    assert not data.images.flags.writeable
    assert data.x_0(np.array([1, 2])).shape == (2, 3, 5, 4)


def test_images_without_a_channel_axis_have_one_channel(tmp_path: Path) -> None:
    assert open_data(npy(tmp_path, BYTES[..., 0])).shape == (1, 5, 4)


def test_pairs_of_floats_are_points(tmp_path: Path) -> None:
    data = open_data(npy(tmp_path, RNG.standard_normal((20, 2))))
    assert data.is_points
    assert data.images.dtype == np.float64


@pytest.mark.parametrize(("dtype", "kept"), [(">f4", "<f4"), ("<f8", "<f8"), (">f8", "<f8"), ("<f2", "<f4")])
def test_floats_are_kept_as_float32_or_float64_and_come_back_in_their_own_units(
    tmp_path: Path, dtype: str, kept: str
) -> None:
    data = open_data(npy(tmp_path, FLOATS.astype(dtype)))
    assert data.images.dtype == np.dtype(kept)
    assert np.array_equal(data.images, FLOATS.astype(dtype))
    x_0 = data.x_0(np.arange(50)).double()
    assert x_0.mean((0, 2, 3)).abs().max() < 1e-5
    assert (x_0.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert np.abs(data.units.decode(x_0) - FLOATS.astype(dtype)).max() < 1e-4


def test_a_given_range_becomes_minus_one_to_one(tmp_path: Path) -> None:
    data = open_data(npy(tmp_path, FLOATS), DataSettings(range=(90.0, 110.0)))
    assert data.units == Real((100.0, 100.0), (10.0, 10.0))


def test_booleans_are_two_values_of_bytes(tmp_path: Path) -> None:
    data = open_data(npy(tmp_path, BYTES > 100), DataSettings(levels=2))
    assert data.units == Levels(2)
    assert np.array_equal(data.images, BYTES > 100)


def test_levels_stand_beside_the_images_or_are_given(tmp_path: Path) -> None:
    few = BYTES % 17
    assert open_data(npz(tmp_path, images=few, levels=17)).units == Levels(17)
    assert open_data(npz(tmp_path, images=few), DataSettings(levels=20)).units == Levels(20)
    data = open_data(npz(tmp_path, images=few))
    assert data.units == Levels(256)
    assert "--data.levels 17" in data.notes[0]
    with pytest.raises(DataError, match=r"the value 16, outside of 9 levels 0\.\.8"):
        open_data(npz(tmp_path, images=few), DataSettings(levels=9))
    with pytest.raises(DataError, match="whole number from 2 to 256"):
        open_data(npz(tmp_path, images=few, levels=np.array([17, 18])))


@pytest.mark.parametrize(
    "arrays",
    [
        {"other": 1 - BYTES, "images": BYTES},
        {"x": BYTES},
        {"z": BYTES, "a": 1 - BYTES},
        {"y": np.arange(6), "q": BYTES},
        {"time": np.arange(6), "q": BYTES},
        {"time": np.zeros((6, 1)), "q": BYTES},
        {"latlon": np.zeros((6, 2)), "q": BYTES},
        {"meta": np.array([{"a": 1}], dtype=object), "q": BYTES},
    ],
)
def test_the_images_of_an_archive_are_those_named_so_or_the_first_array(
    tmp_path: Path, arrays: dict[str, NDArray[Any]]
) -> None:
    assert np.array_equal(open_data(npz(tmp_path, **arrays)).images, BYTES)


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    (note,) = open_data(npz(tmp_path, images=BYTES, condition=BYTES, levels=256, target=1 - BYTES)).notes
    assert note == "read: images of x.npz; not used: condition, target"
    (note,) = open_data(npz(tmp_path, input=BYTES, target=BYTES)).notes
    assert note == "read: input of x.npz; not used: target; an array called `images` is read first"
    (note,) = open_data(npz(tmp_path, images=BYTES, labels=np.linspace(0, 1, 6))).notes
    assert note == "read: images of x.npz; not used: labels"
    (note,) = open_data(npz(tmp_path, **{"images": BYTES, "\x1b[31m": BYTES})).notes
    assert note == "read: images of x.npz; not used: \\x1b[31m"
    assert open_data(npz(tmp_path, images=BYTES, labels=np.arange(6) % 2), WITH_LABELS).notes == ()
    notes = open_data(npz(tmp_path, images=BYTES + 0.5, levels=256)).notes
    assert "read: images of x.npz; not used: levels" in notes


def test_classes_that_are_not_learned_are_named_with_the_flag(tmp_path: Path) -> None:
    (note,) = open_data(npz(tmp_path, images=BYTES, y=np.array(list("abcabc")))).notes
    assert note == "there are 3 classes (a, b, c), not learned: --data.labels learns them"
    path = idx(tmp_path / "train-images-idx3-ubyte", BYTES[..., 0])
    idx(tmp_path / "train-labels-idx1-ubyte", np.arange(6).astype(np.uint8))
    assert "6 classes (0, 1, 2, 3, 4, ...), not learned" in open_data(path).notes[0]
    assert "10 classes" in open_data("digits").notes[0]


@pytest.mark.parametrize("key", ["labels", "y", "y_train"])
def test_labels_are_taken_where_asked_and_numbered_in_their_order(tmp_path: Path, key: str) -> None:
    path = npz(tmp_path, images=BYTES, **{key: np.array([7, 3, 7, 5, 3, 3])})
    data = open_data(path, WITH_LABELS)
    assert data.labels is not None
    assert data.labels.tolist() == [2, 0, 2, 1, 0, 0]
    assert data.class_names == ("3", "5", "7")
    assert open_data(path).labels is None


def test_labels_may_be_words(tmp_path: Path) -> None:
    data = open_data(npz(tmp_path, images=BYTES, labels=np.array(list("abcabc"))), WITH_LABELS)
    assert data.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.arange(5), "6 images, but labels of shape"),
        (np.eye(6), "one a image|labels of shape"),
        (np.linspace(0, 1, 6), "float64"),
        (np.zeros(6, int), "the same label"),
    ],
)
def test_labels_that_do_not_fit_stop_only_those_who_ask_for_them(
    tmp_path: Path, labels: NDArray[Any], problem: str
) -> None:
    path = npz(tmp_path, images=BYTES, labels=labels)
    assert len(open_data(path)) == 6
    with pytest.raises(DataError, match=problem):
        open_data(path, WITH_LABELS)


def test_classes_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labels"):
        open_data(npy(tmp_path, BYTES), WITH_LABELS)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (FLOATS.astype(complex), "complex"),
        (np.array(list("abc")), "shape"),
        (BYTES[0, 0], "shape"),
        (np.zeros((2, 2, 2, 2, 2, 2), np.uint8), "shape"),
        (BYTES[:1], "at least 2 images"),
        (np.zeros((5, 0, 3), np.uint8), "at least 2 images|cannot be read"),
        (np.where(np.arange(50)[:, None, None, None] == 41, np.nan, FLOATS), "image 41 is the first"),
        (FLOATS.astype(np.float64) * 1e300, "too large to be squared"),
        (FLOATS * [1, 0], "channel 1 of x\\.npy is constant"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, array: NDArray[Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        open_data(npy(tmp_path, array))


def test_channels_that_stand_last_by_intent_are_believed(tmp_path: Path) -> None:
    path = npy(tmp_path, RNG.standard_normal((4, 3, 32, 32)))
    assert open_data(path, DataSettings(channels=32)).shape == (32, 3, 32)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    for path in (npy(tmp_path, objects), npz(tmp_path, images=objects)):
        with pytest.raises(DataError, match="holds pickled Python objects, which are never loaded"):
            open_data(path)
    words = np.array(["cat", "dog"] * 3, dtype=object)
    path = npz(tmp_path, images=BYTES, labels=words)
    assert len(open_data(path)) == 6
    with pytest.raises(DataError, match="pickled"):
        open_data(path, WITH_LABELS)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(BYTES))
    with pytest.raises(DataError, match="not a file of NumPy"):
        open_data(tmp_path / "p.npy")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = npy(tmp_path, BYTES) if suffix == ".npy" else npz(tmp_path, images=BYTES)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"cannot be read|is cut short"):
        open_data(path)
    path.write_bytes(b"")
    with pytest.raises(DataError):
        open_data(path)


@pytest.mark.parametrize(
    "options",
    [DataSettings(size=8), DataSettings(channels=1), DataSettings(range=(0, 1))],
)
def test_options_that_contradict_the_array_are_refused(tmp_path: Path, options: DataSettings) -> None:
    with pytest.raises(SettingsError):
        open_data(npy(tmp_path, BYTES), options)


def test_levels_are_not_for_floats(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="floats, which have no levels"):
        open_data(npy(tmp_path, FLOATS), DataSettings(levels=17))


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_idx_file_is_read_with_the_labels_beside_it(tmp_path: Path, ending: str) -> None:
    path = idx(tmp_path / f"train-images-idx3-ubyte{ending}", BYTES[..., 0])
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([0, 1, 2, 0, 1, 2], np.uint8))
    for source in (path, tmp_path):  # the folder means its training set
        data = open_data(source, WITH_LABELS)
        assert np.array_equal(data.images[..., 0], BYTES[..., 0])
        assert data.labels is not None
        assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert data.class_names == ("0", "1", "2")
        assert data.units == Levels(256)
        assert data.name == source.name


def test_idx_floats_are_big_endian(tmp_path: Path) -> None:
    data = open_data(idx(tmp_path / "floats.idx", FLOATS[..., 0].astype(">f4"), code=0x0D))
    assert np.array_equal(data.images[..., 0], FLOATS[..., 0])


def test_idx_files_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    labels = idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros(6, np.uint8))
    with pytest.raises(DataError, match="not images"):
        open_data(labels)
    path = idx(tmp_path / "lonely-images-idx3-ubyte", BYTES[..., 0])
    with pytest.raises(DataError, match="no labels lie beside"):
        open_data(path, WITH_LABELS)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="cut off"):
        open_data(path)
    zipped = idx(tmp_path / "cut-images-idx3-ubyte.gz", RNG.integers(0, 256, (9, 28, 28), np.uint8))
    zipped.write_bytes(zipped.read_bytes()[:-500])
    with pytest.raises(DataError, match="cannot be read"):
        open_data(zipped)


def test_fashion_mnist_is_what_it_is_known_to_be() -> None:
    if not FASHION.exists():
        pytest.skip(f"Fashion-MNIST is not at {FASHION}")
    data = open_data(FASHION / "t10k-images-idx3-ubyte.gz", WITH_LABELS)
    assert data.images.shape == (10_000, 28, 28, 1)
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [1000] * 10
    assert data.labels[:5].tolist() == [9, 2, 1, 1, 6]


def cifar(folder: Path, *, count: int = 4) -> tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]:
    """Two batches of `count` records, and what they must become."""
    root = folder / "cifar-10-batches-bin"
    root.mkdir()
    images = RNG.integers(0, 256, (2 * count, 32, 32, 3), np.uint8)
    labels = (np.arange(2 * count) % 10).astype(np.uint8)
    records = np.concatenate((labels[:, None], images.transpose(0, 3, 1, 2).reshape(2 * count, -1)), axis=1)
    for number in (1, 2):
        (root / f"data_batch_{number}.bin").write_bytes(
            records[(number - 1) * count : number * count].tobytes()
        )
    return root, images, labels


def test_cifar_is_read_from_its_folder_and_from_one_file(tmp_path: Path) -> None:
    root, images, labels = cifar(tmp_path)
    (root / "test_batch.bin").write_bytes((root / "data_batch_1.bin").read_bytes())
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    (root / "batches.meta.txt").write_text(names.replace(" ", "\n") + "\n\n")
    data = open_data(root, WITH_LABELS)
    assert np.array_equal(data.images, images)
    assert data.labels is not None
    assert np.array_equal(data.labels, labels)
    assert data.class_names == tuple(names.split())
    assert np.array_equal(open_data(root / "data_batch_2.bin").images, images[4:])
    assert open_data(root, DataSettings(size=32, channels=3, levels=256)).shape == (3, 32, 32)


def test_cifars_pickles_are_refused_with_the_way_to_its_binary_version(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": BYTES}))
    for source in (tmp_path, tmp_path / "data_batch_1"):
        with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
            open_data(source)


def test_a_cut_cifar_batch_is_refused(tmp_path: Path) -> None:
    root, _, _ = cifar(tmp_path)
    path = root / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_2\.bin is cut off"):
        open_data(root)
