"""The ``general.*`` keys of a model, and where it came from."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from convert.model import ModelTensor
from convert.quantize import library_version
from convert.sources.checkpoint import Location, as_text
from convert.sources.json_file import read_json
from convert.sources.source_file import SourceFile
from fwlocal import __version__
from fwlocal.errors import BadCheckpoint, FwlocalError

MAX_CARD_BYTES = 4 << 20

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
    location: Location, name: str, tensors: Sequence[ModelTensor], licence: str
) -> dict[str, Any]:
    """What llama.cpp's converter writes from the model card, config.json and
    generation_config.json of the source, by gguf's own code."""
    folder = location.folder
    n_params = sum(math.prod(tensor.shape) for tensor in tensors)
    writer = gguf.GGUFWriter(None, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    try:
        with tempfile.TemporaryDirectory(prefix="fwlocal-") as temporary:
            metadata = gguf.Metadata.load(None, _view(location, Path(temporary)), name, n_params)
        if metadata.size_label is None:
            metadata.size_label = gguf.size_label(n_params, n_params, 0, 0)
        metadata.license = metadata.license or licence or None
        metadata.set_gguf_meta_model(writer)
    except FwlocalError:
        raise
    except Exception as error:  # a card is free text, and gguf's reader trusts it
        reason = " ".join(str(error).split())
        raise BadCheckpoint(
            f"{folder / 'README.md'}: the front matter, or generation_config.json beside it, "
            f"cannot be understood ({reason}); mend or remove it"
        ) from error
    return dict(writer.kv_data[0])


def _view(location: Location, temporary: Path) -> Path:
    """A folder of the source's name, which gguf reads too, with what it reads, checked and without
    byte order marks."""
    folder, view = location.folder, temporary / (location.name or "model")
    view.mkdir()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            content = json.dumps(read_json(folder / name))
            (view / name).write_text(content, encoding="utf-8")
    card = folder / "README.md"
    if card.is_file() and card.stat().st_size <= MAX_CARD_BYTES:
        text = card.read_text(encoding="utf-8-sig", errors="replace")
        (view / card.name).write_text(text, encoding="utf-8")
    return view


def provenance_keys(
    location: Location, files: Sequence[SourceFile], known: Known, base: Location | None = None
) -> dict[str, Any]:
    """The ``fwlocal.*`` keys but for the hashes: what made the file, and from what."""
    values: Mapping[str, str | None] = {
        "fwlocal.version": __version__,
        "fwlocal.llama_cpp": library_version(),
        "fwlocal.model": known.model,
        "fwlocal.source": location.repo or location.name,
        "fwlocal.source.revision": location.revision,
        "fwlocal.base": (base.repo or base.name) if base else None,
        "fwlocal.base.revision": base.revision if base else None,
    }
    string = gguf.GGUFValueType.STRING
    keys = {key: gguf.GGUFValue(value, string) for key, value in values.items() if value}
    names = [as_text(file.path.name) for file in files]
    keys["fwlocal.source.files"] = gguf.GGUFValue(names, gguf.GGUFValueType.ARRAY, string)
    return keys


def origin_keys(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a GGUF that is a source itself: its own source is the ``fwlocal.origin`` of what
    is made of it, unless it tells of an earlier one."""
    source, origin = "fwlocal.source", "fwlocal.origin"
    kept = {key: value for key, value in keys.items() if not key.startswith(source)}
    if origin in keys:
        return kept
    own = {key: value for key, value in keys.items() if key.startswith(source)}
    return kept | {key.replace(source, origin): value for key, value in own.items()}


def template_keys(known: Known) -> dict[str, Any]:
    """The chat template that the caller knows to be right, over the checkpoint's own."""
    if not known.chat_template:
        return {}
    value = gguf.GGUFValue(known.chat_template, gguf.GGUFValueType.STRING)
    return {"tokenizer.chat_template": value}
