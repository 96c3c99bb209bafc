"""Folders as people have them: nested, mixed, damaged; read in one order and never changed."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kakusan.config.settings import DataSettings
from kakusan.data import open_data
from kakusan.data.image_files import read_pixels
from kakusan.data.units import Levels
from kakusan.errors import DataError, SettingsError

posix = pytest.mark.skipif(os.name == "nt", reason="Windows makes links and pipes only for administrators")


def paint(path: Path, value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)


def painted(root: Path, count: int) -> Path:
    for number in range(count):
        paint(root / f"{number:03d}.png", number)
    return root


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def test_a_folder_is_read_in_the_order_of_its_relative_names(tmp_path: Path) -> None:
    names = ["b.png", "a/z.png", "a/deep/er/x.png", "C.png", "a.png", "ä.png", "写真/漢字 1.png", "a b.png"]
    for value, name in enumerate(names):
        paint(tmp_path / name, value)
    data = open_data(str(tmp_path))
    assert data.captions == tuple(sorted(names))
    assert data.images[:, 0, 0, 0].tolist() == [names.index(name) for name in data.captions]
    assert data.name == tmp_path.name
    assert data.source == str(tmp_path.resolve())
    assert data.units == Levels(256)


def test_an_order_of_creation_or_the_place_of_the_folder_changes_nothing(tmp_path: Path) -> None:
    for value in (3, 1, 2):
        paint(tmp_path / "one" / f"{value}.png", value)
    for value in (2, 3, 1):
        paint(tmp_path / "other" / f"{value}.png", value)
    assert open_data(tmp_path / "one").fingerprint == open_data(tmp_path / "other").fingerprint


def test_grey_images_stay_grey_and_one_coloured_image_makes_all_colour(tmp_path: Path) -> None:
    painted(tmp_path, 3)
    assert open_data(tmp_path).shape == (1, 8, 8)
    paint(tmp_path / "red.png", 200, mode="RGB")
    assert open_data(tmp_path).shape == (3, 8, 8)
    assert open_data(tmp_path, DataSettings(channels=1)).shape == (1, 8, 8)


def test_a_size_that_all_share_is_kept_even_if_it_is_not_square(tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / f"{number}.png", size=(20, 9))
    data = open_data(tmp_path)
    assert data.shape == (1, 9, 20)
    assert data.notes == ()


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(20, 40), (33, 90), (50, 34)], 32),
        ([(5, 5), (6, 6)], 8),
        ([(900, 500), (999, 800)], 64),
        ([(300, 300)] * 2, 64),
    ],
)
def test_sizes_that_differ_or_are_huge_become_a_stated_square(
    tmp_path: Path, sizes: list[tuple[int, int]], side: int
) -> None:
    for number, size in enumerate(sizes):
        paint(tmp_path / f"{number}.png", size=size)
    data = open_data(tmp_path)
    assert data.shape == (1, side, side)
    assert f"{side}x{side}" in data.notes[0]


@pytest.mark.parametrize(("size", "expected"), [(16, (16, 16)), ((4, 6), (4, 6))])
def test_a_size_that_is_asked_for_is_given(
    tmp_path: Path, size: int | tuple[int, int], expected: tuple[int, int]
) -> None:
    painted(tmp_path, 2)
    assert open_data(tmp_path, DataSettings(size=size)).shape[1:] == expected


def test_strangers_and_hidden_files_are_ignored_and_counted(tmp_path: Path) -> None:
    painted(tmp_path, 2)
    for name in ("notes.txt", "labels.json", "README", "Thumbs.db", ".DS_Store", ".hidden.png"):
        (tmp_path / name).write_text("no image")
    paint(tmp_path / ".git" / "x.png")
    data = open_data(tmp_path)
    assert len(data) == 2
    assert data.notes == ("not images, and ignored: 7",)
    assert data.bad_files == ()


def test_one_bad_file_is_left_out_with_its_reason(tmp_path: Path) -> None:
    painted(tmp_path, 5)
    spoil(tmp_path / "003.png")
    data = open_data(tmp_path)
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4]
    assert data.captions == ("000.png", "001.png", "002.png", "004.png")
    (bad,) = data.bad_files
    assert bad.name == "003.png"
    assert bad.reason


def test_up_to_one_percent_of_bad_files_is_left_out(tmp_path: Path) -> None:
    painted(tmp_path, 200)
    spoil(tmp_path / "003.png")
    (tmp_path / "nothing.jpg").write_text("a text")
    data = open_data(tmp_path)  # 2 of 201
    assert len(data) == 199
    assert [file.name for file in data.bad_files] == ["003.png", "nothing.jpg"]


def test_more_bad_files_than_that_stop_with_their_names_and_reasons(tmp_path: Path) -> None:
    painted(tmp_path, 20)
    for number in range(7):
        (tmp_path / f"x{number}.jpg").write_text("a text")
    with pytest.raises(DataError, match="7 of the 27 images") as caught:
        open_data(tmp_path)
    assert "x0.jpg: no PNG" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    enough = float(str(caught.value).rpartition("--data.bad-share ")[2])
    assert len(open_data(tmp_path, DataSettings(bad_share=enough))) == 20


def test_the_percentage_also_counts_what_fails_only_when_decoded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(tmp_path / f"{number}.png")
    for number in (1, 4):
        path = tmp_path / f"{number}.png"
        path.write_bytes(path.read_bytes()[:500])  # the head is whole
    with pytest.raises(DataError, match="2 of the 6 images"):
        open_data(tmp_path)


def test_an_empty_folder_and_a_single_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        open_data(tmp_path)
    painted(tmp_path, 1)
    with pytest.raises(DataError, match="a single image"):
        open_data(tmp_path)


@posix
def test_links_to_folders_outside_are_followed_where_asked_but_never_in_circles(tmp_path: Path) -> None:
    painted(tmp_path / "data" / "real", 3)
    painted(tmp_path / "elsewhere", 2)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data" / "real")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "one.png").symlink_to(tmp_path / "elsewhere" / "001.png")
    (tmp_path / "data" / "itself").symlink_to("itself")
    data = open_data(tmp_path / "data", DataSettings(follow_links=True))
    linked = [f"linked/{number:03d}.png" for number in range(2)]
    assert data.captions == (*linked, "one.png", *[f"real/{number:03d}.png" for number in range(3)])
    assert [file.name for file in data.bad_files] == ["itself"]
    data = open_data(tmp_path / "data")
    assert data.captions == ("one.png", *[f"real/{number:03d}.png" for number in range(3)])
    (note,) = data.notes
    assert note == "1 link to folders outside not followed (linked): --data.follow-links True follows"


@posix
def test_a_folder_of_nothing_but_links_says_how_to_follow_them(tmp_path: Path) -> None:
    painted(tmp_path / "elsewhere", 2)
    (tmp_path / "data").mkdir()
    for name in ("cats", "dogs"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="holds no images") as caught:
        open_data(tmp_path / "data")
    assert "2 links to folders outside not followed (cats, dogs): --data.follow-links True" in str(
        caught.value
    )


@posix
def test_a_link_that_leads_nowhere_is_bad_and_a_pipe_is_not_opened(tmp_path: Path) -> None:
    painted(tmp_path, 3)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    data = open_data(tmp_path)
    assert [(file.name, file.reason) for file in data.bad_files] == [("gone.png", "the link leads nowhere")]
    assert data.notes == ("not images, and ignored: 1",)


def test_a_name_that_is_no_text_can_be_read_and_shown(tmp_path: Path) -> None:
    painted(tmp_path, 2)
    try:
        shutil.copy(os.fsencode(tmp_path / "000.png"), os.fsencode(tmp_path) + b"/\xff.png")
    except OSError:
        pytest.skip("this file system takes only names that are text")
    data = open_data(tmp_path)
    assert len(data) == 3
    "".join(data.captions).encode()  # does not raise


def test_all_threads_together_decode_a_bounded_number_of_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted(tmp_path, 200)
    under_way, most = [0], [0]

    def read(path: Path, *form: int) -> NDArray[np.uint8]:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(1e-4)  # long enough for another thread to come
        under_way[0] -= 1
        return read_pixels(path, *form)

    monkeypatch.setattr("kakusan.data.folder.read_pixels", read)
    monkeypatch.setattr("kakusan.data.folder.MOST_PIXELS", 8 * 8 + 1)  # one image, and not two
    assert len(open_data(tmp_path)) == 200
    assert most == [1]


@posix
@pytest.mark.parametrize("name", ["pipe", "pipe.npy", "pipe.bin"])
def test_a_pipe_as_data_is_refused_and_never_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        open_data(tmp_path / name)
    (tmp_path / "batches").mkdir()
    os.mkfifo(tmp_path / "batches" / "data_batch_1.bin")
    with pytest.raises(DataError, match="holds no images"):
        open_data(tmp_path / "batches")


@posix
def test_names_that_command_a_terminal_are_told_without_their_commands(tmp_path: Path) -> None:
    painted(tmp_path / "a", 3)
    painted(tmp_path / "b\x1b[31m", 3)
    (tmp_path / "\x1b]0;title\x07.png").write_text("a text")
    data = open_data(tmp_path)
    assert [file.name for file in data.bad_files] == ["\\x1b]0;title\\x07.png"]
    assert all(caption.isprintable() for caption in data.captions)
    assert "b\\x1b[31m" in data.notes[-1]
    assert all(note.isprintable() for note in data.notes)


def test_subfolders_become_classes_where_asked(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/sub/2.png", "cat/1.png"):
        paint(tmp_path / name)
    data = open_data(tmp_path, DataSettings(labels=True))
    assert data.class_names == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]
    assert open_data(tmp_path).labels is None


def test_classes_need_every_image_in_a_subfolder_and_two_of_them(tmp_path: Path) -> None:
    painted(tmp_path / "cat", 2)
    with pytest.raises(DataError, match="the same label"):
        open_data(tmp_path, DataSettings(labels=True))
    paint(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"1 images lie directly .* loose\.png"):
        open_data(tmp_path, DataSettings(labels=True))


def test_reading_a_folder_changes_nothing_in_it_and_tells_its_progress(tmp_path: Path) -> None:
    painted(tmp_path, 100)
    (tmp_path / "notes.txt").write_text("a note")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*")}
    told: list[tuple[int, int]] = []
    open_data(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*")} == before
    assert told == sorted(told)
    assert told[-1] == (201, 201)


@pytest.mark.parametrize(
    "options", [DataSettings(channels=2), DataSettings(levels=17), DataSettings(range=(0, 1))]
)
def test_options_that_mean_nothing_for_a_folder_are_refused(tmp_path: Path, options: DataSettings) -> None:
    painted(tmp_path, 2)
    with pytest.raises(SettingsError):
        open_data(tmp_path, options)


class TestCache:
    """A cache gives what reading anew would give, without decoding, until the folder changes."""

    @staticmethod
    def cached(tmp_path: Path) -> DataSettings:
        return DataSettings(cache=str(tmp_path / "cache"))

    @staticmethod
    def folder(tmp_path: Path) -> Path:
        root = painted(tmp_path / "images", 120)
        spoil(root / "050.png")
        (root / "notes.txt").write_text("a note")
        return root

    def test_it_holds_what_reading_would_give(self, tmp_path: Path) -> None:
        root = self.folder(tmp_path)
        fresh = open_data(root)
        for _ in range(2):
            data = open_data(root, self.cached(tmp_path))
            assert isinstance(data.images, np.memmap)
            assert (data.fingerprint, data.captions) == (fresh.fingerprint, fresh.captions)
            assert (data.bad_files, data.notes) == (fresh.bad_files, fresh.notes)

    def test_the_second_time_nothing_is_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = self.folder(tmp_path)
        open_data(root, self.cached(tmp_path))
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("an image was opened"))
        assert len(open_data(root, self.cached(tmp_path))) == 119

    def test_it_is_made_anew_when_a_file_changes_comes_or_goes(self, tmp_path: Path) -> None:
        root = self.folder(tmp_path)
        open_data(root, self.cached(tmp_path))
        paint(root / "000.png", 99)
        assert open_data(root, self.cached(tmp_path)).images[0, 0, 0, 0] == 99
        paint(root / "zzz.png", 7)
        assert open_data(root, self.cached(tmp_path)).captions[-1] == "zzz.png"
        (root / "zzz.png").unlink()
        assert len(open_data(root, self.cached(tmp_path))) == 119

    def test_other_options_have_a_cache_of_their_own(self, tmp_path: Path) -> None:
        root = self.folder(tmp_path)
        small = DataSettings(cache=str(tmp_path / "cache"), size=4)
        for options, side in ((self.cached(tmp_path), 8), (small, 4)) * 2:
            assert open_data(root, options).shape == (1, side, side)
        assert len(list((tmp_path / "cache").glob("*.npy"))) == 2

    @pytest.mark.parametrize("suffix", [".npy", ".json"])
    def test_a_damaged_one_is_made_anew(self, tmp_path: Path, suffix: str) -> None:
        root = self.folder(tmp_path)
        fresh = open_data(root, self.cached(tmp_path)).fingerprint
        (file,) = (tmp_path / "cache").glob(f"*{suffix}")
        file.write_bytes(file.read_bytes()[:-20])
        assert open_data(root, self.cached(tmp_path)).fingerprint == fresh

    def test_an_interrupt_leaves_no_cache_that_counts(self, tmp_path: Path) -> None:
        root = self.folder(tmp_path)

        def interrupt(done: int, total: int) -> None:
            if done > total / 2 + 40:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            open_data(root, self.cached(tmp_path), interrupt)
        assert list((tmp_path / "cache").iterdir()) == []
        assert len(open_data(root, self.cached(tmp_path))) == 119

    def test_it_is_read_but_not_written_where_nothing_may_be_written(self, tmp_path: Path) -> None:
        root, cache = painted(tmp_path / "images", 5), tmp_path / "cache"
        cached = DataSettings(cache=str(cache))
        assert len(open_data(root, cached, write_cache=False)) == 5
        assert not cache.exists()
        open_data(root, cached)
        before = {path.name: path.read_bytes() for path in cache.iterdir()}
        assert not open_data(root, cached, write_cache=False).images.flags.writeable
        paint(root / "zzz.png", 9)
        assert len(open_data(root, cached, write_cache=False)) == 6
        assert {path.name: path.read_bytes() for path in cache.iterdir()} == before

    def test_what_was_kept_with_too_many_bad_files_is_refused_as_without_it(self, tmp_path: Path) -> None:
        root, cached = painted(tmp_path / "images", 5), DataSettings(cache=str(tmp_path / "cache"))
        for name in ("x.png", "y.png"):
            (root / name).write_text("a text")
        assert len(open_data(root, replace(cached, bad_share=1.0))) == 5  # as `kakusan data` does
        with pytest.raises(DataError, match="2 of the 7 images"):
            open_data(root, cached)

    @posix
    def test_a_pipe_in_its_place_is_not_opened(self, tmp_path: Path) -> None:
        root, cached = painted(tmp_path / "images", 5), DataSettings(cache=str(tmp_path / "cache"))
        open_data(root, cached)
        (about,) = (tmp_path / "cache").glob("*.json")
        about.unlink()
        os.mkfifo(about)
        assert len(open_data(root, cached, write_cache=False)) == 5

    def test_it_never_lies_in_the_data(self, tmp_path: Path) -> None:
        root = self.folder(tmp_path)
        with pytest.raises(SettingsError, match="inside"):
            open_data(root, DataSettings(cache=str(root / "cache")))

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        root = self.folder(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="cannot be written"):
            open_data(root, DataSettings(cache=str(tmp_path / "file")))

    def test_a_full_disk_is_named_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        resource = pytest.importorskip("resource")
        root = self.folder(tmp_path)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # the images take 7,616 bytes
        try:
            with pytest.raises(DataError, match="cannot be written"):
                open_data(root, self.cached(tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list((tmp_path / "cache").iterdir()) == []

    def test_its_description_is_plain_json(self, tmp_path: Path) -> None:
        open_data(self.folder(tmp_path), self.cached(tmp_path))
        (file,) = (tmp_path / "cache").glob("*.json")
        assert json.loads(file.read_text())["bad"][0][0] == "050.png"
