"""Decoding of files to upright RGB images, and resizing to uint8 squares, with Pillow and numpy; without torch.

Audit, cache and prediction share these functions, so that training and prediction read the same pixels from a file.
"""

import contextlib
import io
import math
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

DECODE_VERSION: Final = 2
"""Incremented if this module reads different pixels from an unchanged file; part of every cache key."""
PIXEL_LIMIT: Final = 89_478_485
"""Largest image that is decoded, in pixels (Pillow's own limit against decompression bombs)."""
LOW_RESOLUTION_PX: Final = 32
"""Images with a shorter side below this are reported as low resolution and not searched for near-duplicates."""

RESAMPLING: Final[dict[str, Image.Resampling]] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
SUFFIXES: Final[dict[str, frozenset[str]]] = {
    "JPEG": frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}),
    # Cameras and phones write MPO, a JPEG with more frames, under the name .jpg.
    "MPO": frozenset({".jpg", ".jpeg", ".mpo"}),
    "PNG": frozenset({".png"}),
    "GIF": frozenset({".gif"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "WEBP": frozenset({".webp"}),
    "PPM": frozenset({".ppm", ".pgm", ".pbm", ".pnm"}),
    "AVIF": frozenset({".avif"}),
}
"""Supported formats, and the file name extensions of each."""
LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""Start of the text file that stands for an image which Git LFS has not fetched."""
EXIF_ORIENTATION: Final = 0x0112
UINT8_MAX: Final = 255
UINT16_MAX: Final = 65535
UINT12_MAX: Final = 4095
BITS_PER_SAMPLE: Final = 258
"""Tag of TIFF files."""
LONG_ASPECT: Final = 8
"""Aspect ratio from which only what the centre crop shows is resized: a strip would otherwise take gigabytes."""
SUPPORT: Final = 4
"""Pixels beyond its own that a filter reads, in units of the larger grid; Lanczos, the widest, reads 3."""


NO_MEMORY: Final = "not enough memory to decode it"


class UndecodableError(Exception):
    """A file that yields no usable image; the message is the reason of removal in the audit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """An upright RGB image, and notes on unusual properties of its file."""

    image: Image.Image
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resize:
    """Resizing of an image to a square of ``size`` pixels.

    Without ``crop_pct`` the whole image is resized to the square, whatever its aspect ratio. With it, the shorter side
    is resized to ``floor(size / crop_pct)`` and the centre is cropped, as in timm's evaluation of its weights.
    """

    size: int
    interpolation: str
    crop_pct: float | None = None

    @property
    def side(self) -> int:
        """Shorter side in pixels before the centre crop."""
        return self.size if self.crop_pct is None else max(self.size, math.floor(self.size / self.crop_pct))


def decode(path: Path, *, min_side: int | None = None) -> Decoded:
    """Decode a whole file to an upright RGB image.

    ``min_side`` allows a faster JPEG decode at reduced size, with sides of at least twice that (``Image.draft``).
    The first frame of an animation is used, EXIF orientation is applied, transparency is composited over white,
    16-bit grey is scaled to 8 bits, and 32-bit integers of 0 to 255 are read as they are.

    Several threads may call it. What libraries report of damaged files is discarded within ``quiet_libraries``.

    Raises UndecodableError if the file is empty, unreadable, not an image, truncated, over the pixel limit, or in a
    pixel format of unknown range.
    """
    # Read first, because Pillow raises OSError for unreadable and for damaged files alike.
    data = _read(path)
    try:
        return _decode_bytes(data, path.suffix.lower(), min_side)
    except UnidentifiedImageError:
        reason = "not an image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        reason = f"over the limit of {PIXEL_LIMIT} pixels"
    except UndecodableError:
        raise
    except MemoryError:
        reason = NO_MEMORY
    except Exception as error:  # noqa: BLE001 - decoders of eleven formats raise whatever they meet in damaged files
        reason = "truncated" if "truncated" in str(error).lower() else f"unreadable: {error}"
    raise UndecodableError(reason)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Discard what libraries report of damaged files: what is wrong with a file is the reason of its removal.

    C libraries write to standard error, and Pillow warns. Both belong to the whole process: one thread holds this
    context, and others may decode meanwhile.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            # Between one and two times its limit Pillow only warns. Its UserWarnings are about damaged metadata.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _read(path: Path) -> bytes:
    try:
        # Reading a named pipe or a device would wait for ever, or never end.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            reason = "not a regular file"
            raise UndecodableError(reason)
        # Before it is read: files of the kernel, such as /proc/kmsg, are empty and never end.
        data = path.read_bytes() if status.st_size else b""
    except OSError as error:
        reason = f"unreadable: {error.strerror}"
        raise UndecodableError(reason) from error
    if not data:
        reason = "empty"
        raise UndecodableError(reason)
    if data.startswith(LFS_POINTER):
        reason = "Git LFS pointer, not the image itself (git lfs pull fetches it)"
        raise UndecodableError(reason)
    return data


def _decode_bytes(data: bytes, suffix: str, min_side: int | None) -> Decoded:
    # Image.OPEN is empty before init(). Only the formats above: Pillow decodes EPS, for example, by Ghostscript.
    Image.init()
    formats = [name for name in Image.OPEN if name in SUFFIXES]
    with Image.open(io.BytesIO(data), formats=formats) as image:
        if image.width * image.height > PIXEL_LIMIT:
            raise Image.DecompressionBombError
        # Before anything that loads the pixels: then it is not known any more how they were coded.
        transparent = _transparent(image)
        # Before draft(), which changes the size that the notes refer to.
        notes = _notes(image, suffix)
        if min_side is not None and image.format in {"JPEG", "MPO"}:
            # Twice the side, the default gap of Image.thumbnail: close to a full decode, by Pillow's documentation.
            image.draft("RGB", (2 * min_side, 2 * min_side))
        image.load()
        if transparent is not None:
            image.info["transparency"] = transparent
        # In place here, and no conversion of RGB images below: to copy a large photo can take longer than to decode it.
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            deep = isinstance(image, TiffImageFile) and max(image.tag_v2.get(BITS_PER_SAMPLE, (0,))) > 16  # noqa: PLR2004 - bits
            rgb, more = _from_integers(image, deep=deep)
            return Decoded(image=rgb, notes=(*notes, *more))
        return Decoded(image=to_rgb(image), notes=notes)


def _transparent(image: ImageFile.ImageFile) -> int | tuple[int, ...] | bytes | None:
    """Return the transparent colour of a PNG file in the values that its pixels have after decoding.

    Pillow scales the pixels of 2, 4 and 16 bits a channel to 8 bits, and not the colour.
    """
    colour, coded = image.info.get("transparency"), image.tile[0].args if image.tile else None
    if colour is None or not isinstance(coded, str):
        return None
    if coded in {"L;2", "L;4"}:
        return int(colour * UINT8_MAX // (2 ** int(coded[-1]) - 1))
    if coded.startswith("RGB;16"):
        return tuple(int(value) >> 8 for value in colour)
    return None


def _notes(image: Image.Image, suffix: str) -> tuple[str, ...]:
    notes = []
    if suffix not in SUFFIXES[str(image.format)]:
        notes.append(f"wrong extension: {image.format} named {suffix or 'without ending'}")
    if min(image.size) < LOW_RESOLUTION_PX:
        notes.append(f"low resolution: under {LOW_RESOLUTION_PX} px")
    # The frames of an MPO file are views or previews of one photograph, not an animation.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notes.append("animated: first frame used")
    if image.mode != "RGB" or "transparency" in image.info:
        notes.append(f"not RGB: {image.mode} converted")
    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        notes.append("EXIF orientation applied")
    return tuple(notes)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of up to 8 bits to RGB: transparency is composited over white."""
    if image.mode == "F":
        reason = "float pixels of unknown range"
        raise UndecodableError(reason)
    # PNG can mark one colour or palette entries as transparent without an alpha channel.
    if image.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_integers(image: Image.Image, *, deep: bool) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert grey integers to RGB, scaled from 16 bits, and return notes; ``deep``: the file has 32 bits.

    The range of 32-bit integers is not known: as they are, they must be 8-bit values.
    """
    # Pillow reads some 16-bit files as mode I, which has 32 bits.
    values = np.asarray(image).astype(np.int64)
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    if least < 0 or most > (UINT8_MAX if deep else UINT16_MAX):
        reason = f"{32 if deep or most > UINT16_MAX else 16}-bit pixels of unknown range"
        raise UndecodableError(reason)
    grey = values if deep else np.rint(values * (UINT8_MAX / UINT16_MAX))
    if (transparent := image.info.get("transparency")) is not None:
        grey = np.where(values == transparent, UINT8_MAX, grey)
    notes = ("32-bit pixels of 0 to 255: read as 8 bits",) if deep else ()
    if not deep and 0 < most <= UINT12_MAX:
        notes = ("16-bit pixels of at most 12 bits: dark, with 16 grey levels",)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB"), notes


def to_square(image: Image.Image, resize: Resize) -> NDArray[np.uint8]:
    """Resize an RGB image to uint8 ``[size, size, 3]``, with antialiasing."""
    size, resample = resize.size, RESAMPLING[resize.interpolation]
    if resize.crop_pct is None:
        return np.asarray(image.resize((size, size), resample))
    scale = resize.side / min(image.size)
    # max(), because rounding must not leave a side shorter than the crop.
    width, height = (max(size, round(length * scale)) for length in image.size)
    if max(width, height) > LONG_ASPECT * resize.side:
        return _middle_of_strip(image, (width, height), size, resample)
    resized = image.resize((width, height), resample)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def _middle_of_strip(
    image: Image.Image, whole: tuple[int, int], size: int, resample: Image.Resampling
) -> NDArray[np.uint8]:
    """Return the central square of an image as if it were resized to ``whole``, of which only a part is computed."""
    box, part, corner = [], [], []
    for length, full in zip(image.size, whole, strict=True):
        # What the filter reads beyond the square, so that its pixels do not depend on the cut.
        margin = math.ceil(SUPPORT * max(1.0, full / length))
        start = (full - size) // 2
        first, last = max(start - margin, 0), min(start + size + margin, full)
        box.append((first * length / full, last * length / full))
        part.append(last - first)
        corner.append(start - first)
    (left, right), (top, bottom) = box
    resized = image.resize((part[0], part[1]), resample, box=(left, top, right, bottom))
    return np.asarray(resized.crop((corner[0], corner[1], corner[0] + size, corner[1] + size)))


def load_square(path: Path, resize: Resize) -> NDArray[np.uint8]:
    """Decode a file and resize it to uint8 ``[size, size, 3]``; raises UndecodableError as ``decode`` does."""
    return to_square(decode(path, min_side=resize.side).image, resize)
