"""Files of weights, which may come from a stranger: the shapes in a safetensors file, read from its header alone."""

import json
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from imgcls.errors import ConfigError
from imgcls.messages import Setting

MOST_HEADER_BYTES: Final = 10_000_000
"""The largest networks of timm need a third of a megabyte."""

MOST_DIMS: Final = 32

MOST_SHOWN: Final = 60


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a safetensors file's tensors by name, without reading their values.

    Raises ConfigError if it is not a safetensors file, or has a header or a shape that no network has.
    """
    try:
        header = _header(file)
        with safe_open(file, framework="pt") as tensors:
            shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118 - not a dict
        json.loads(header, object_pairs_hook=_unique)
        # A dimension may exceed the file where another one is 0.
        limit = file.stat().st_size
        for key, shape in shapes.items():
            if len(shape) > MOST_DIMS or max(shape, default=0) > limit:
                message = f"tensor {key[:MOST_SHOWN]!r} has an absurd shape"
                raise ValueError(message)  # noqa: TRY301 - in one line with what safetensors itself refuses
        return shapes  # noqa: TRY300 - as above
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = f": {file.parent.name}/{file.name} is not a safetensors file ({error})"
        raise ConfigError(Setting("weights"), reason) from error


def _header(file: Path) -> bytes:
    """Return the header, as JSON; raises ValueError if it is too long."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > MOST_HEADER_BYTES:
            message = f"its header has {length} bytes, more than {MOST_HEADER_BYTES}"
            raise ValueError(message)
        return opened.read(length)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON; raises ValueError if a name is repeated, of which safetensors keeps one silently."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        repeated = next(name for number, name in enumerate(names) if name in names[:number])
        message = f"its header names {repeated[:MOST_SHOWN]!r} twice"
        raise ValueError(message)
    return dict(pairs)
