"""The ``general.*`` keys of a model, and where it came from."""

from __future__ import annotations

import importlib.metadata
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from convert.checkpoint import Location
from convert.model import ModelTensor
from fwlocal import __version__
from fwlocal.errors import BadCheckpoint

for _name in ("gguf", "metadata"):  # gguf's doubts about a card are not the user's
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Known:
    """What the caller knows of a model beyond its files; "" for nothing.

    ``is_delta``: the source is useless until the base, ``base_repo``, is added.
    """

    model: str = ""
    licence: str = ""
    chat_template: str = ""
    is_delta: bool = False
    base_repo: str = ""


def general_keys(
    folder: Path, name: str, tensors: Sequence[ModelTensor], licence: str
) -> dict[str, Any]:
    """What llama.cpp's converter writes from the model card, config.json and
    generation_config.json in ``folder``, by gguf's own code."""
    n_params = sum(math.prod(tensor.shape) for tensor in tensors)
    writer = gguf.GGUFWriter(None, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    try:
        metadata = gguf.Metadata.load(None, folder, name, n_params)
        if metadata.size_label is None:
            metadata.size_label = gguf.size_label(n_params, n_params, 0, 0)
        metadata.license = metadata.license or licence or None
        metadata.set_gguf_meta_model(writer)
    except Exception as error:  # a card is free text, and gguf's reader trusts it
        reason = " ".join(str(error).split())
        raise BadCheckpoint(
            f"{folder}: the model card or generation_config.json cannot be understood ({reason}); "
            "mend or remove README.md's front matter"
        ) from error
    return dict(writer.kv_data[0])


def provenance_keys(location: Location, files: Sequence[Path], known: Known) -> dict[str, Any]:
    """The ``fwlocal.*`` keys but for the hashes: what made the file, and from what."""
    values: Mapping[str, str | None] = {
        "fwlocal.version": __version__,
        "fwlocal.llama_cpp": f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}",
        "fwlocal.model": known.model,
        "fwlocal.source": location.repo or location.name,
        "fwlocal.source.revision": location.revision,
    }
    string = gguf.GGUFValueType.STRING
    keys = {key: gguf.GGUFValue(value, string) for key, value in values.items() if value}
    names = [path.name for path in files]
    keys["fwlocal.source.files"] = gguf.GGUFValue(names, gguf.GGUFValueType.ARRAY, string)
    return keys


def template_keys(known: Known) -> dict[str, Any]:
    """The chat template that the caller knows to be right, over the checkpoint's own."""
    if not known.chat_template:
        return {}
    value = gguf.GGUFValue(known.chat_template, gguf.GGUFValueType.STRING)
    return {"tokenizer.chat_template": value}
