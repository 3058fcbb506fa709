"""What a user can get wrong, and what can go wrong in a run."""


class UserError(Exception):
    """A mistake of the user: one line that names the wrong value and the valid ones; exit status 2."""


class ConfigError(UserError):
    """A wrong flag, name, size, device or weights folder."""


class DataError(UserError):
    """A data set that cannot be used as asked."""


class RunError(RuntimeError):
    """A run that cannot give an honest result; it becomes a failed record, exit status 1."""


class NonFiniteLossError(RunError):
    """The training loss became NaN or infinite; raised before the optimizer's step."""


class ParityError(RunError):
    """The exported model does not give the logits of the trained one."""


class RuntimeUnavailableError(RunError):
    """A runtime or provider that was asked for is not here, or did not run."""


class NoDeviceError(RuntimeUnavailableError):
    """A runtime needs a device that this machine lacks: there is nothing to measure, and nothing has failed."""
