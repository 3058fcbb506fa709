"""Names of models: timm's, with or without a tag of weights, deprecated ones, and places with weights of their own."""

from difflib import get_close_matches
from typing import Final

import timm
from timm.models import get_arch_pretrained_cfgs, get_deprecated_models, get_pretrained_cfg, split_model_name_tag
from timm.models._pretrained import PretrainedCfg

from imgcls.errors import ConfigError

HUB: Final = "hf-hub:"
"""Prefix of a repository of the model hub, ``hf-hub:owner/name`` or ``hf-hub:owner/name@revision``."""

LOCAL: Final = "local-dir:"
"""Prefix of a folder with ``config.json`` and ``model.safetensors``."""


def names_weights(name: str) -> bool:
    """Return whether a name is that of a place with weights, which has an architecture of its own."""
    return name.startswith((HUB, LOCAL))


def current_name(name: str, registered: tuple[str, ...] = ()) -> str:
    """Return a timm name, a deprecated one as timm maps it; raises ConfigError for a name that timm does not have.

    ``registered`` are further known names, for the message.
    """
    if names_weights(name):
        return name
    deprecated = get_deprecated_models()
    if name in deprecated:
        successor = deprecated[name]
        if successor is None:
            message = f"{name}: timm has removed this model; choose another one"
            raise ConfigError(message)
        return successor
    if not timm.is_model(name):
        near = get_close_matches(name, [*registered, *timm.list_models()], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        choices = (*registered, "any name that timm lists", f"{HUB}OWNER/NAME", f"{LOCAL}FOLDER")
        message = f"unknown model {name!r}{hint}; known: {', '.join(choices)}"
        raise ConfigError(message)
    return name


def default_cfg(name: str) -> PretrainedCfg:
    """Return timm's config for a name, of its tag or of the default one; raises ConfigError for an unknown tag."""
    architecture, tag = split_model_name_tag(name)
    cfgs = get_arch_pretrained_cfgs(architecture)
    if tag and name not in cfgs:
        tags = ", ".join(split_model_name_tag(other)[1] for other in cfgs) or "none"
        message = f"{name}: {architecture} has no weights with the tag {tag}; known: {tags}"
        raise ConfigError(message)
    return get_pretrained_cfg(name) or PretrainedCfg(architecture=architecture)
