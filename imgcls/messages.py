"""Messages that refer to settings: text in which ``str()`` writes a setting as Python does, as in ``weights="none"``.

The references stay data until then, so that the command line can write the same message with flags.
"""

import json

import msgspec

Value = str | int | float | bool | None
"""Type of the value of a setting in a message."""


class Setting(msgspec.Struct, frozen=True):
    """A reference to a field of a config or a parameter of a function, with a value if the message names one."""

    field: str
    value: Value = None

    def __str__(self) -> str:
        """Return the setting as a keyword argument: ``image_size``, ``image_size=64`` or ``weights="none"``."""
        if self.value is None:
            return self.field
        # Not repr, whose single quotes are not what the documents and examples use.
        value = json.dumps(self.value, ensure_ascii=False) if isinstance(self.value, str) else self.value
        return f"{self.field}={value}"


Part = str | Setting
"""A piece of a message."""


# With a tag, so that a logged message keeps its type on the way from a worker process to its caller.
class Message(msgspec.Struct, frozen=True, tag=True):
    """A text with references to settings; it can be logged as it is."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        """Return the text, with settings as the library names them."""
        return "".join(map(str, self.parts))
