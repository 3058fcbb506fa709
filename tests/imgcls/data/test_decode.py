"""Decoding of unusual and damaged files."""

import contextlib
import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls.data import decode as decoding
from imgcls.data.decode import Resize, UndecodableError, decode, load_square, quiet_libraries, to_square
from tests.helpers.images import smooth_image


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_empty_file_is_named_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UndecodableError, match=r"^empty$"):
        decode(tmp_path / "a.jpg")


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UndecodableError, match="unreadable"):
        decode(tmp_path / "none.jpg")


def test_text_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello, this is text")
    with pytest.raises(UndecodableError, match="not an image"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = saved(smooth_image(1, size=300), tmp_path / f"a.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UndecodableError, match="truncated"):
        decode(path)


def test_image_over_the_pixel_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("L", (200, 200)), tmp_path / "a.png")
    monkeypatch.setattr(decoding, "PIXEL_LIMIT", 200 * 200 - 1)
    with pytest.raises(UndecodableError, match="over the limit"):
        decode(path)


def test_pillows_bomb_warning_is_the_limit(tmp_path: Path) -> None:
    path = saved(Image.new("1", (12_000, 8_000)), tmp_path / "bomb.png")
    with pytest.raises(UndecodableError, match="over the limit"):
        decode(path)


def test_metadata_warnings_can_be_silenced(tmp_path: Path) -> None:
    path = saved(smooth_image(1), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    filters = list(warnings.filters)
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        decode(path)
    with quiet_libraries():
        decode(path)
    assert warnings.filters == filters


def test_wrong_extension_is_noted(tmp_path: Path) -> None:
    path = saved(smooth_image(1), tmp_path / "a.jpg", format="PNG")
    assert decode(path).notes == ("wrong extension: PNG named .jpg",)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    decoded = decode(path)
    assert decoded.image.getpixel((5, 5)) == (255, 0, 0)
    assert "animated: first frame used" in decoded.notes


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1", "LA", "RGBA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = saved(Image.new(mode, (40, 40)), tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    decoded = decode(path)
    assert decoded.image.mode == "RGB"
    assert any(note.startswith("not RGB") for note in decoded.notes)


def test_transparency_becomes_white(tmp_path: Path) -> None:
    path = saved(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), tmp_path / "a.png")
    assert decode(path).image.getpixel((0, 0)) == (255, 255, 255)


def test_transparent_palette_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([10, 20, 30] + [0] * 765)
    path = saved(image, tmp_path / "a.png", transparency=0)
    assert decode(path).image.getpixel((0, 0)) == (255, 255, 255)


def test_16_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 20_000, 65535]] * 3, dtype=np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "a.png")
    pixels = np.asarray(decode(path).image)
    assert pixels[0, :, 0].tolist() == [0, 78, 255]


def test_dark_16_bits_are_noted(tmp_path: Path) -> None:
    """As of a camera of 12 bits: of 4,096 values, 16 grey levels are left."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    decoded = decode(saved(Image.fromarray(values), tmp_path / "a.png"))
    assert len(np.unique(np.asarray(decoded.image))) == 17
    assert decoded.notes[-1] == "16-bit pixels of at most 12 bits: dark, with 16 grey levels"


def test_32_bit_integers_of_8_bits_are_read_as_they_are(tmp_path: Path) -> None:
    values = np.arange(40 * 40, dtype=np.int32).reshape(40, 40) % 256
    decoded = decode(saved(Image.fromarray(values), tmp_path / "a.tif"))
    assert np.array_equal(np.asarray(decoded.image)[..., 0], values)
    assert decoded.notes[-1] == "32-bit pixels of 0 to 255: read as 8 bits"


@pytest.mark.parametrize("value", [-1, 256, 65535, 10**6])
def test_32_bit_integers_of_another_range_are_refused(tmp_path: Path, value: int) -> None:
    values = np.full((40, 40), value, dtype=np.int32)
    with pytest.raises(UndecodableError, match="32-bit pixels of unknown range"):
        decode(saved(Image.fromarray(values), tmp_path / "a.tif"))


def png(path: Path, rows: bytes, *, depth: int, colour: int, transparent: bytes) -> Path:
    """Write a PNG file of 8 x 8 px, of which one value is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + data)
    return path


@pytest.mark.parametrize(("depth", "value", "other"), [(1, 0, 1), (2, 1, 2), (4, 3, 9), (8, 200, 100), (16, 0, 40000)])
def test_transparent_grey_is_white_at_every_depth(tmp_path: Path, depth: int, value: int, other: int) -> None:
    """The left half is transparent; Pillow scales the pixels of fewer than 8 bits, and not the transparent value."""
    bits = [format(grey, f"0{depth}b") for grey in [value] * 4 + [other] * 4]
    row = b"\0" + int("".join(bits), 2).to_bytes(depth, "big")
    pixels = np.asarray(
        decode(png(tmp_path / "a.png", row * 8, depth=depth, colour=0, transparent=struct.pack(">H", value))).image
    )
    expected = round(other * 255 / (2**depth - 1))
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == expected).all()


def test_transparent_colour_of_16_bits_is_white(tmp_path: Path) -> None:
    clear, solid = (1, 2, 3), (40000, 300, 65535)
    row = b"\0" + struct.pack(">24H", *(clear * 4 + solid * 4))
    path = png(tmp_path / "a.png", row * 8, depth=16, colour=2, transparent=struct.pack(">3H", *clear))
    pixels = np.asarray(decode(path).image)
    assert (pixels[:, :4] == 255).all()
    assert pixels[0, 7].tolist() == [156, 1, 255]


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.ones((40, 40), dtype=np.float32)), tmp_path / "a.tif")
    with pytest.raises(UndecodableError, match="unknown range"):
        decode(path)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 40), "red")
    exif = image.getexif()
    exif[decoding.EXIF_ORIENTATION] = 6
    path = saved(image, tmp_path / "a.jpg", exif=exif)
    decoded = decode(path)
    assert decoded.image.size == (40, 60)
    assert "EXIF orientation applied" in decoded.notes


def test_low_resolution_is_noted(tmp_path: Path) -> None:
    path = saved(smooth_image(1, size=31), tmp_path / "a.png")
    assert decode(path).notes == ("low resolution: under 32 px",)


def test_reduced_jpeg_decode_is_close(tmp_path: Path) -> None:
    path = saved(smooth_image(3, size=1600), tmp_path / "a.jpg", quality=95)
    resize = Resize(size=100, interpolation="bilinear")
    full = to_square(decode(path).image, resize).astype(int)
    cheap = load_square(path, resize).astype(int)
    assert np.abs(full - cheap).max() <= 4


def test_squeeze_keeps_all_and_crop_the_centre() -> None:
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[:, 20:60] = 255
    image = Image.fromarray(pixels)
    squeezed = to_square(image, Resize(size=40, interpolation="bilinear"))
    cropped = to_square(image, Resize(size=40, interpolation="bilinear", crop_pct=1.0))
    assert squeezed[:, 0].max() == 0
    assert cropped.min() == 255


@pytest.mark.parametrize("shape", [(400, 20), (20, 401), (7, 900), (3001, 97)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_strip_has_the_same_centre_crop_as_the_whole(
    shape: tuple[int, int], interpolation: str, crop_pct: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without values at which overshooting is clipped, which depends on the order of rows and columns.
    image = Image.fromarray(np.random.default_rng(0).integers(100, 150, (*shape, 3), dtype=np.uint8))
    resize = Resize(size=32, interpolation=interpolation, crop_pct=crop_pct)
    strip = to_square(image, resize)
    monkeypatch.setattr(decoding, "LONG_ASPECT", np.inf)
    # Rounding between rows and columns depends on the order, too.
    assert np.abs(strip.astype(int) - to_square(image, resize)).max() <= (0 if interpolation == "nearest" else 1)


def test_strip_of_a_million_pixels_is_cropped_in_little_memory(tmp_path: Path) -> None:
    """Resized as a whole, it would be 224 million pixels wide."""
    path = saved(Image.fromarray(np.arange(10**6, dtype=np.uint32).astype(np.uint8).reshape(1, -1)), tmp_path / "a.png")
    tracemalloc.start()
    square = load_square(path, Resize(size=224, interpolation="bicubic", crop_pct=0.875))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert square.shape == (224, 224, 3)


def test_shrinking_is_antialiased() -> None:
    checks = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = Image.fromarray(checks).convert("RGB")
    small = to_square(image, Resize(size=32, interpolation="bilinear"))
    assert np.abs(small.astype(int) - 127).max() <= 4


def test_corrupt_files_raise_one_error_class(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    smooth_image(1).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = data.copy()
        for position in rng.integers(8, len(broken), 5):
            broken[position] = int(rng.integers(256))
        (tmp_path / "a.png").write_bytes(broken)
        with contextlib.suppress(UndecodableError):
            decode(tmp_path / "a.png")
