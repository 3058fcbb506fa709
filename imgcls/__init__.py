"""Library for one model on one data set: audit, split, fine-tune, evaluate, export, predict. Works without ``bench``.

Start with ``docs/library.md``, which contains an example, and the module ``pipeline``. Public names are imported when
they are first used, so that ``import imgcls`` does not load torch.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from imgcls.config import ArchitectureConfig, LoaderConfig, SplitConfig, TrainConfig
    from imgcls.data.audit import Audit, audit_dataset
    from imgcls.data.sources.folder import Dataset
    from imgcls.data.sources.registry import load_dataset
    from imgcls.data.splits import Splits, make_splits
    from imgcls.errors import ConfigError, DataError, RunError, UserError
    from imgcls.inference.predict import PhotoPrediction, classify
    from imgcls.pipeline import FineTuned, evaluate, export, fine_tune

_HOMES: Final = {
    "ArchitectureConfig": "imgcls.config",
    "LoaderConfig": "imgcls.config",
    "SplitConfig": "imgcls.config",
    "TrainConfig": "imgcls.config",
    "Audit": "imgcls.data.audit",
    "audit_dataset": "imgcls.data.audit",
    "Dataset": "imgcls.data.sources.folder",
    "load_dataset": "imgcls.data.sources.registry",
    "Splits": "imgcls.data.splits",
    "make_splits": "imgcls.data.splits",
    "ConfigError": "imgcls.errors",
    "DataError": "imgcls.errors",
    "RunError": "imgcls.errors",
    "UserError": "imgcls.errors",
    "PhotoPrediction": "imgcls.inference.predict",
    "classify": "imgcls.inference.predict",
    "FineTuned": "imgcls.pipeline",
    "evaluate": "imgcls.pipeline",
    "export": "imgcls.pipeline",
    "fine_tune": "imgcls.pipeline",
}
"""The module of each public name."""

_RENAMED: Final = {"Answer": "PhotoPrediction"}
"""The present name of each deprecated one."""

__all__ = [
    "ArchitectureConfig",
    "Audit",
    "ConfigError",
    "DataError",
    "Dataset",
    "FineTuned",
    "LoaderConfig",
    "PhotoPrediction",
    "RunError",
    "SplitConfig",
    "Splits",
    "TrainConfig",
    "UserError",
    "audit_dataset",
    "classify",
    "evaluate",
    "export",
    "fine_tune",
    "load_dataset",
    "make_splits",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name in _RENAMED:
        warnings.warn(f"imgcls.{name} is now imgcls.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _HOMES:
        message = f"module 'imgcls' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
