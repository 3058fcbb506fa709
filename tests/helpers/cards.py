"""Changing the card of an exported model."""

from pathlib import Path

import msgspec
import onnx

from imgcls.inference.card import CARD_KEY


def edit_card(path: Path, target: Path | None = None, **changes: object) -> Path:
    """Write a model with other fields in its card, over itself or to ``target``; return the file."""
    model = onnx.load(path)
    card = msgspec.json.decode(model.metadata_props[0].value)
    onnx.helper.set_model_props(model, {CARD_KEY: msgspec.json.encode(card | changes).decode()})
    onnx.save(model, target or path)
    return target or path
