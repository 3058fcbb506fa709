"""Decoding of unusual and damaged files."""

import contextlib
import io
import warnings
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
