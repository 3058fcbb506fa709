"""Exceptions: mistakes of the user, and failures of a run."""

from collections.abc import Sequence

from imgcls.messages import Message, Part, Setting, Value


class UserError(Exception):
    """A mistake of the user: one line that names the wrong value and the valid ones; exit status 2.

    ``str()`` names settings as the library does, the command line names them as flags. ``field`` and ``value`` are the
    setting with which the message begins, or None.
    """

    def __init__(self, *parts: Part, value: Value = None) -> None:
        """Create the error from the parts of its message; ``value`` is for a message that words the value itself."""
        # Without Exception's own: ``args`` stay the arguments of the subclass, from which ``pickle`` makes a copy.
        self.message = Message(parts)
        subject = parts[0] if parts and isinstance(parts[0], Setting) else None
        self.field = subject.field if subject else None
        self.value = subject.value if subject and value is None else value

    def __str__(self) -> str:
        """Return the message, with settings as the library names them."""
        return str(self.message)


class ConfigError(UserError):
    """An invalid setting, name, size, device or weights folder."""


class ImageSizeError(ConfigError):
    """An image size that a network cannot have; ``nearest`` is the next one that it can have, in pixels."""

    def __init__(self, model: str, image_size: int, reason: str, nearest: int) -> None:
        """Name the model and the reason; the message ends with the size to use."""
        super().__init__(
            Setting("image_size", image_size),
            f": {model} cannot have this size ({reason}); use ",
            Setting("image_size", nearest),
            " px",
        )
        self.nearest = nearest


class GroupedConfigError(ConfigError):
    """Several mistakes that are reported together, each with a line of its own in ``errors``."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        """Join the messages, for callers that expect one."""
        joined = [part for error in errors for part in ("; ", *error.message.parts)]
        super().__init__(*joined[1:])
        self.errors = tuple(errors)


class DataError(UserError):
    """A data set that cannot be used as requested."""


class RunError(RuntimeError):
    """A run that cannot have a valid result; it is recorded as failed, exit status 1."""


class NonFiniteLossError(RunError):
    """The training loss became NaN or infinite; raised before its weights are evaluated or saved."""


class OutOfMemoryError(RunError):
    """A training step needs more memory than the device or the host has."""


class ParityError(RunError):
    """The logits of a model in some runtime differ from those of the trained model."""


class RuntimeUnavailableError(RunError):
    """A requested runtime or provider is not available, or another one ran in its place."""


class NoDeviceError(RuntimeUnavailableError):
    """A runtime needs a device that this machine does not have: it is not measured, which is not a failure."""
