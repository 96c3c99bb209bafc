"""One strange image at a time, against what its pixels must become."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from kakusan.data.image_files import BadPictureError, NotAnImageError, read_header, read_pixels

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def noise(height: int, width: int, *channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def pixels(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    header = read_header(path)
    return read_pixels(path, header.height, header.width, channels)


def quarters(mode: str = "RGB") -> Image.Image:
    """6 wide, 4 high: red and green above, blue and white below."""
    array = np.zeros((4, 6, 3), np.uint8)
    array[:2, :3], array[:2, 3:], array[2:, :3], array[2:, 3:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(array).convert(mode)


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_image_of_the_wanted_size_is_taken_bit_for_bit(
    tmp_path: Path, format_: str, channels: int
) -> None:
    array = noise(5, 7, 3) if channels == 3 else noise(5, 7)
    path = tmp_path / "image"
    Image.fromarray(array).save(path, format_, lossless=True)
    expected = array.reshape(5, 7, channels) if format_ != "WEBP" else array.reshape(5, 7, -1)
    assert np.array_equal(pixels(path, channels), np.broadcast_to(expected, (5, 7, channels)))
    assert read_header(path).format == format_


def test_jpeg_and_gif_are_read(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "a.jpg", 1)[..., 0].astype(int) - smooth).max() < 8
    Image.fromarray(smooth).save(tmp_path / "a.gif")
    assert np.array_equal(pixels(tmp_path / "a.gif", 1)[..., 0], smooth)


def test_the_format_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    quarters().save(tmp_path / "liar.jpg", "PNG")
    assert read_header(tmp_path / "liar.jpg").format == "PNG"


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    quarters().quantize(4).save(tmp_path / "p.png")
    assert read_header(tmp_path / "p.png").mode == "P"
    assert not read_header(tmp_path / "p.png").is_grey
    assert np.array_equal(pixels(tmp_path / "p.png"), np.asarray(quarters()))


@pytest.mark.parametrize("format_", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_of_greys_alone_is_grey(tmp_path: Path, format_: str) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8))
    image.putpalette([level for grey in (250, 80, 10, 160) for level in (grey, grey, grey)])
    image.save(tmp_path / "grey", format_)
    assert read_header(tmp_path / "grey").is_grey
    assert pixels(tmp_path / "grey", 1)[..., 0].tolist() == [[250, 80], [10, 160]]


@pytest.mark.parametrize("format_", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_with_a_colour_is_not_grey(tmp_path: Path, format_: str) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([0, 0, 0, 9, 200, 30])
    image.save(tmp_path / "colour", format_)
    assert not read_header(tmp_path / "colour").is_grey


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]
    assert "laid over white" in read_header(tmp_path / "a.png").conversions


def test_grey_with_alpha_stays_grey_over_white(tmp_path: Path) -> None:
    la = np.array([[[7, 255], [7, 0]]], np.uint8)
    Image.fromarray(la, "LA").save(tmp_path / "la.png")
    assert read_header(tmp_path / "la.png").is_grey
    assert pixels(tmp_path / "la.png", 1)[..., 0].tolist() == [[7, 255]]


def test_a_transparent_palette_entry_and_a_transparent_colour_become_white(tmp_path: Path) -> None:
    quarters().quantize(4).save(
        tmp_path / "p.png", transparency=int(np.asarray(quarters().quantize(4))[0, 0])
    )
    assert pixels(tmp_path / "p.png")[0, 0].tolist() == list(WHITE)
    assert pixels(tmp_path / "p.png")[0, 5].tolist() == list(GREEN)
    quarters().save(tmp_path / "rgb.png", transparency=RED)
    assert pixels(tmp_path / "rgb.png")[0, 0].tolist() == list(WHITE)
    assert pixels(tmp_path / "rgb.png")[3, 0].tolist() == list(BLUE)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.tif")
    assert pixels(tmp_path / "c.tif")[0, 0].tolist() == list(RED)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "c.jpg")[0, 0].astype(int) - RED).max() < 4
    assert "CMYK to RGB" in read_header(tmp_path / "c.jpg").conversions


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_16_bit_grey_is_divided_by_257_and_rounded(tmp_path: Path, format_: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep", format_)
    header = read_header(tmp_path / "deep")
    assert header.is_grey
    assert header.conversions == ("16-bit grey to 8-bit",)
    assert pixels(tmp_path / "deep", 1)[..., 0].tolist() == [
        [round(value / 257) for value in values[0].tolist()]
    ]


def test_black_and_white_become_0_and_255(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bw.png")
    assert read_header(tmp_path / "bw.png").mode == "1"
    assert pixels(tmp_path / "bw.png", 1)[..., 0].tolist() == [[255, 0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_and_grey_are_turned_into_each_other(tmp_path: Path, channels: int) -> None:
    quarters().save(tmp_path / "rgb.png")
    quarters("L").save(tmp_path / "l.png")
    from_colour, from_grey = (pixels(tmp_path / name, channels) for name in ("rgb.png", "l.png"))
    assert from_colour.shape == from_grey.shape == (4, 6, channels)
    grey = from_grey[..., :1]
    assert np.array_equal(from_grey, np.broadcast_to(grey, from_grey.shape))
    assert grey[0, 0] == round(0.299 * 255)  # ITU-R 601: red


def upright() -> NDArray[np.uint8]:
    return np.asarray(quarters())


@pytest.mark.parametrize(
    ("format_", "orientation"), [(f, o) for f in ("PNG", "TIFF", "WEBP") for o in range(1, 9)]
)
def test_the_rotation_of_a_camera_is_applied(tmp_path: Path, format_: str, orientation: int) -> None:
    undo = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    undo |= {6: np.rot90, 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, 3)}
    stored = undo.get(orientation, lambda a: a)(upright())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x", format_, exif=exif, lossless=True)
    header = read_header(tmp_path / "x")
    assert (header.width, header.height) == (6, 4)
    assert ("rotated as its EXIF says" in header.conversions) == (orientation != 1)
    assert np.array_equal(pixels(tmp_path / "x"), upright())


def test_a_rotated_photograph_stands_upright_even_when_it_is_decoded_at_a_fraction(tmp_path: Path) -> None:
    big = quarters().resize((600, 400), Image.Resampling.NEAREST).rotate(90, expand=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    big.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    assert (read_header(tmp_path / "photo.jpg").width, read_header(tmp_path / "photo.jpg").height) == (
        600,
        400,
    )
    small = read_pixels(tmp_path / "photo.jpg", 8, 12, 3).astype(int)
    assert np.abs(small[1, 1] - RED).max() < 12
    assert np.abs(small[6, 10] - WHITE).max() < 12


def test_damaged_notes_of_a_camera_do_not_spoil_the_picture(tmp_path: Path) -> None:
    quarters().save(tmp_path / "x.png", exif=b"Exif\0\0no such thing")
    assert np.array_equal(pixels(tmp_path / "x.png"), upright())


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    for format_ in ("GIF", "PNG", "WEBP", "TIFF"):
        path = tmp_path / format_
        frames[0].save(path, format_, save_all=True, append_images=frames[1:], lossless=True)
        assert pixels(path)[0, 0].tolist() == list(RED)
        assert "only its first frame" in read_header(path).conversions


def test_a_photograph_with_a_second_view_is_its_first(tmp_path: Path) -> None:
    views = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    views[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=views[1:])
    assert read_header(tmp_path / "a.jpg").format == "JPEG"
    assert np.abs(pixels(tmp_path / "a.jpg")[0, 0].astype(int) - RED).max() < 4


def test_a_larger_image_is_scaled_until_it_covers_and_its_middle_is_cut_out(tmp_path: Path) -> None:
    stripes = np.repeat(np.arange(5, dtype=np.uint8), 10)[None, :].repeat(10, axis=0) * 50
    Image.fromarray(stripes).save(tmp_path / "wide.png")  # five squares of 10x10
    assert (read_pixels(tmp_path / "wide.png", 10, 10, 1) == 100).all()  # of its own height: a mere cut
    small = read_pixels(tmp_path / "wide.png", 5, 5, 1)
    assert np.abs(small[:, 1:-1].astype(int) - 100).max() <= 2  # Lanczos lets the neighbours shine through
    whole = read_pixels(tmp_path / "wide.png", 2, 10, 1)  # not square
    assert whole.shape == (2, 10, 1)
    assert np.abs(whole[0, ::2, 0].astype(int) - np.arange(5) * 50).max() <= 8


def test_shrinking_averages_and_does_not_pick(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "board.png")
    assert np.abs(read_pixels(tmp_path / "board.png", 8, 8, 1).astype(int) - 127).max() <= 4


def test_floats_and_32_bit_integers_are_refused_with_a_way_out(tmp_path: Path) -> None:
    for name, dtype in (("f.tif", np.float32), ("i.tif", np.int32)):
        Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / name)
        with pytest.raises(BadPictureError, match="store them in a NumPy file"):
            pixels(tmp_path / name)


def test_a_truncated_image_is_refused_in_every_format(tmp_path: Path) -> None:
    for format_ in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        path = tmp_path / f"cut.{format_.lower()}"
        Image.fromarray(noise(64, 64, 3)).save(path, format_)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the reader of folders does
            with pytest.raises(BadPictureError, match=r"."):
                pixels(path)


def test_a_text_that_calls_itself_an_image_is_bad_and_one_that_does_not_is_a_stranger(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("milk, eggs")
    with pytest.raises(BadPictureError, match="no PNG, JPEG, WebP, BMP, TIFF or GIF"):
        read_header(tmp_path / "notes.png")
    (tmp_path / "notes.txt").write_text("milk, eggs")
    with pytest.raises(NotAnImageError):
        read_header(tmp_path / "notes.txt")
    (tmp_path / "void.jpg").touch()
    with pytest.raises(BadPictureError, match="it is empty"):
        read_header(tmp_path / "void.jpg")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (2, 2)).save(tmp_path / "bomb.png")
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(BadPictureError, match="more than 64,000,000 pixels"):
        read_header(tmp_path / "bomb.png")


def test_64_megapixels_are_the_limit(tmp_path: Path) -> None:
    for side, is_read in ((8000, True), (8001, False)):
        Image.new("1", (side, 8000)).save(tmp_path / "large.png")
        if is_read:
            assert read_header(tmp_path / "large.png").width == side
        else:
            for read in (read_header, pixels):
                with pytest.raises(BadPictureError, match="more than 64,000,000 pixels"):
                    read(tmp_path / "large.png")


def test_other_colour_spaces_become_rgb(tmp_path: Path) -> None:
    Image.new("YCbCr", (4, 4), (76, 85, 255)).save(tmp_path / "y.tif")
    assert np.abs(pixels(tmp_path / "y.tif")[0, 0].astype(int) - RED).max() < 4
    Image.new("LAB", (4, 4), (128, 128, 128)).save(tmp_path / "lab.tif")  # half as light as white, no colour
    assert np.abs(pixels(tmp_path / "lab.tif")[0, 0].astype(int) - 119).max() < 3
