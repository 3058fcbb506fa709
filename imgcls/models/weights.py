"""Initial weights of a model: from the hub, from a folder, or random; pickles are never read."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from inspect import signature
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import timm
from timm.models import PretrainedCfg, split_model_name_tag

from imgcls.errors import ConfigError
from imgcls.hub import HubError, HubFile, MissingError, fetch, find_cached, has_file
from imgcls.messages import Setting
from imgcls.models.model_names import HUB, LOCAL, default_cfg, names_weights
from imgcls.models.weight_files import shapes_of

WEIGHTS_FILE: Final = "model.safetensors"

CONFIG_FILE: Final = "config.json"
PICKLE_FILE: Final = "pytorch_model.bin"
"""What old repositories of the hub hold in its place; it is never read, because a pickle can run any code."""

RESERVED: Final = frozenset(signature(timm.create_model).parameters) - {"kwargs"}
"""Arguments of timm that are none of a network: some name files to load, pickles among them."""

Init = Literal["pretrained", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Initial weights of a model; ``file`` is a path of this machine and is never recorded.

    ``config`` is timm's config of the weights as JSON values, so that it reaches a worker process unchanged: the types
    that timm declares for its fields are not those of their values. ``revision`` is the commit of the hub's repository
    that the weights are from.
    """

    init: Init
    tag: str
    sha256: str | None
    file: Path | None
    config: dict[str, Any]
    revision: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``timm.create_model`` that belong to the weights."""

    @property
    def cfg(self) -> PretrainedCfg:
        """The config as timm's own class."""
        return _pretrained_cfg(self.config)


def config_of(cfg: PretrainedCfg) -> dict[str, Any]:
    """Return a config of timm as JSON values: its tuples as lists."""
    config: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(cfg))
    return config


def random_weights(architecture: str) -> Weights:
    """Return random initialisation, with the mean, std and interpolation of the architecture's default tag.

    Raises ConfigError for a name of weights, which has no architecture before it is read.
    """
    if names_weights(architecture):
        reason = (Setting("weights", "none"), " excludes; name its architecture")
        raise ConfigError(architecture, ": names pre-trained weights, which ", *reason)
    cfg = default_cfg(architecture)
    return Weights(init="random", tag="random", sha256=None, file=None, config=config_of(cfg))


def hub_weights(architecture: str, *, revision: str | None = None, unreachable: str | None = None) -> Weights:
    """Download the safetensors weights of ``architecture.tag`` from the hub, or read the hub's cache on this machine.

    ``revision`` is a branch, tag or commit of their repository; None: its default branch. ``unreachable`` is why the
    hub cannot be reached, if that is known. Raises ConfigError if there are none, or if they cannot be had.
    """
    cfg = default_cfg(architecture)
    if not cfg.hf_hub_id:
        hint = (f": the hub holds no weights for {architecture}; use ", Setting("weights", "none"))
        raise ConfigError(Setting("weights", "pretrained"), *hint)
    try:
        file = fetch(cfg.hf_hub_id, WEIGHTS_FILE, revision=revision, unreachable=unreachable)
    except HubError as error:
        raise _hub_error(architecture, cfg.hf_hub_id, revision, error) from error
    return _downloaded(file, cfg, {})


def _downloaded(file: HubFile, cfg: PretrainedCfg, options: dict[str, Any]) -> Weights:
    return Weights(
        init="pretrained",
        tag=cfg.tag or "default",
        sha256=file.sha256,
        file=file.path,
        config=config_of(cfg),
        revision=file.revision,
        options=options,
    )


def _hub_error(architecture: str, repo: str, revision: str | None, error: HubError) -> ConfigError:
    reason = str(error)
    if isinstance(error, MissingError) and has_file(repo, PICKLE_FILE, revision=revision):
        reason = f"it has {PICKLE_FILE} only, a pickle, which could run any code and is never read"
    hint = ("; or use ", Setting("weights", "none"), ", or a folder")
    return ConfigError(Setting("weights", "pretrained"), f": {repo} for {architecture}: {reason}", *hint)


def in_cache(architecture: str) -> bool:
    """Return whether the weights of ``architecture.tag`` are in the hub's cache on this machine."""
    repo = default_cfg(architecture).hf_hub_id
    return repo is not None and find_cached(repo, WEIGHTS_FILE) is not None


def folder_weights(architecture: str, folder: Path) -> Weights:
    """Read ``folder/<model>/config.json`` and ``model.safetensors``, in the layout of timm's ``local-dir:``.

    Raises ConfigError if the model is not there, has a different architecture, or has no valid safetensors file.
    """
    name = split_model_name_tag(architecture)[0]
    home = folder / name
    if not (home / CONFIG_FILE).is_file():
        models = ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}"))) or "none"
        reason = f": no {name}/{CONFIG_FILE} there; models in that folder: {models}"
        raise ConfigError(Setting("weights", str(folder)), reason)
    weights = local_weights(home)
    if (config_architecture := weights.config["architecture"]) != name:
        raise ConfigError(
            Setting("weights"), f": {name}/{CONFIG_FILE} is for {config_architecture!r}, not for {name!r}"
        )
    return weights


def local_weights(home: Path) -> Weights:
    """Read ``config.json`` and ``model.safetensors`` of a folder; raises ConfigError if one is missing or not valid."""
    cfg_file, file = home / CONFIG_FILE, home / WEIGHTS_FILE
    for path in (cfg_file, file):
        if not path.is_file():
            why = "" if path == cfg_file else " (other formats are not read: pickles run code)"
            raise ConfigError(Setting("weights", str(home.parent)), f": no {home.name}/{path.name} there{why}")
    # For its ConfigError: a damaged file is reported before it is hashed.
    shapes_of(file)
    cfg, options = _read_cfg(cfg_file)
    return Weights(
        init="pretrained",
        tag=cfg.tag or "local",
        sha256=sha256_of(file),
        file=file,
        config=config_of(cfg),
        options=options,
    )


def named_weights(name: str, *, unreachable: Callable[[], str | None]) -> Weights:
    """Read the weights of ``hf-hub:owner/name@revision`` or ``local-dir:FOLDER``; raises ConfigError if there are none.

    ``unreachable`` returns why the hub cannot be reached, or None.
    """
    if name.startswith(LOCAL):
        return local_weights(Path(name.removeprefix(LOCAL)).expanduser())
    repo, _, revision = name.removeprefix(HUB).partition("@")
    try:
        reason = unreachable()
        cfg_file = fetch(repo, CONFIG_FILE, revision=revision or None, unreachable=reason)
        file = fetch(repo, WEIGHTS_FILE, revision=revision or None, unreachable=reason)
    except HubError as error:
        raise _hub_error(name, repo, revision or None, error) from error
    cfg, options = _read_cfg(cfg_file.path)
    return _downloaded(file, cfg, options)


def _read_cfg(cfg_file: Path) -> tuple[PretrainedCfg, dict[str, Any]]:
    """Return timm's config and the arguments of its network in a ``config.json``; raises ConfigError if it is none."""
    try:
        config = json.loads(cfg_file.read_text(encoding="utf-8"))
        values, options = dict(config.get("pretrained_cfg", {})), dict(config.get("model_args") or {})
        values["architecture"] = split_model_name_tag(config["architecture"])[0]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f": {cfg_file.parent.name}/{cfg_file.name} is not a timm model config ({error})"
        raise ConfigError(Setting("weights"), reason) from error
    # timm writes num_classes beside pretrained_cfg; 1000 is the default of PretrainedCfg.
    values.setdefault("num_classes", config.get("num_classes", 1000))
    if reserved := sorted(RESERVED & options.keys()):
        reason = f": {cfg_file.parent.name}/{cfg_file.name} has model_args {', '.join(reserved)}, which no network has"
        raise ConfigError(Setting("weights"), reason)
    return _pretrained_cfg(values), options


def _pretrained_cfg(values: dict[str, Any]) -> PretrainedCfg:
    # Other versions of timm write fields that the installed one does not accept.
    field_names = {field.name for field in fields(PretrainedCfg)}
    return PretrainedCfg(**{key: _frozen(value) for key, value in values.items() if key in field_names})


def _frozen(value: Any) -> Any:  # noqa: ANN401 - a JSON value; its lists are tuples in timm's configs
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
