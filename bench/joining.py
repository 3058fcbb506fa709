"""Which study a command works on: the one with its identity, or a new one."""

from typing import Any

import optuna
from optuna.storages import RDBStorage

from bench import storage
from bench.space import Values
from bench.tuning import differences
from imgcls.errors import ConfigError


def join(store: RDBStorage, name: str, identity: dict[str, Any], first: Values, *, force_new: bool) -> str:
    """Find the study with this identity, or make it with the defaults as first trial; gives its name.

    Raises ConfigError where the name is taken by a study of something else, unless ``force_new``.
    """
    with storage.locked(store, name):
        taken = [other for other in optuna.get_all_study_names(store) if _is_version(other, name)]
        found = {other: _identity(store, other) for other in taken}
        for other, theirs in found.items():
            if theirs in (identity, None):
                return _make(store, other, identity, first)
        if found and not force_new:
            unlike = ", another ".join(differences(identity, found[taken[0]] or {}))
            message = f"study {taken[0]} has another {unlike}; --force-new starts one beside it"
            raise ConfigError(message)
        return _make(store, f"{name}-{len(taken) + 1}" if taken else name, identity, first)


def _is_version(other: str, name: str) -> bool:
    rest = other.removeprefix(name)
    return other.startswith(name) and (not rest or (rest[0] == "-" and rest[1:].isdigit()))


def _identity(store: RDBStorage, name: str) -> dict[str, Any] | None:
    """Give what a study is of; None for one that was killed while it was made, {} for one that is not ours."""
    study = optuna.load_study(study_name=name, storage=store)
    nothing: dict[str, Any] = {}
    found: dict[str, Any] | None = study.user_attrs.get("identity", nothing if study.trials else None)
    return found


def _make(store: RDBStorage, name: str, identity: dict[str, Any], first: Values) -> str:
    study = optuna.create_study(study_name=name, storage=store, direction="maximize", load_if_exists=True)
    if "identity" not in study.user_attrs:
        study.set_user_attr("identity", identity)
    if not study.trials:
        study.enqueue_trial(dict(first), user_attrs={"default": True})
    return name
