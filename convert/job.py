"""A conversion as it is asked for, and as it was found to be possible, from headers alone.

``prepare`` finds all that can be known to be wrong before anything is written;
``convert.run.run_job`` does the work.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gguf

from convert.gguf_file import open_gguf
from convert.imatrix import ImportanceMatrix, read_imatrix, weights_for
from convert.llama import EMBEDDING, map_tensors
from convert.llama_config import key_values, read_config
from convert.metadata import Known, general_keys, origin_keys, provenance_keys, template_keys
from convert.model import Model
from convert.pipeline import Importance
from convert.plan import PlannedFile, PlannedLevel, plan_levels
from convert.recipes import LEVELS, Level
from convert.sources.checkpoint import Location, locate, open_checkpoint
from convert.sources.delta import DeltaSource
from convert.sources.remote import WINDOW_BYTES
from convert.sources.tensors import TensorSource
from convert.tokens.tokenizer import read_tokenizer
from fwlocal.errors import StoreError, UsageError


@dataclass(frozen=True)
class Request:
    """What the user asks for; ``name`` "" takes the source's, ``split_bytes`` 0 never splits."""

    location: Location
    levels: tuple[Level, ...]
    out: Path
    name: str = ""
    base: str | Location | None = None
    imatrix: Path | None = None
    n_threads: int | None = None
    split_bytes: int = 0
    overwrite: bool = False
    allow_nan: bool = False
    allow_requantize: bool = False
    known: Known = field(default_factory=Known)


@dataclass(frozen=True)
class Job:
    """A conversion that is known to be possible."""

    request: Request
    model: Model
    importance: Importance | None
    levels: tuple[PlannedLevel, ...]

    @property
    def files(self) -> tuple[PlannedFile, ...]:
        """Every file that will be written."""
        return tuple(file for level in self.levels for file in level.files)

    @property
    def has_chat_template(self) -> bool:
        """Whether the files will know their prompt format."""
        return "tokenizer.chat_template" in self.model.keys

    @property
    def source_bytes(self) -> int:
        """Bytes of the source's files."""
        return sum(file.size_bytes for file in self.model.source.files)

    @property
    def fetch_bytes(self) -> int:
        """Those of them that come over the network."""
        return sum(file.size_bytes for file in self.model.source.files if file.is_remote)

    def close(self) -> None:
        """Give the source back."""
        self.model.source.close()


def prepare(request: Request) -> Job:
    """Open and check the source, and plan every file."""
    model = (_open_gguf if request.location.is_gguf else _open_llama)(request)
    try:
        return _plan(request, model)
    except BaseException:
        model.source.close()
        raise


def nearest_folder(out: Path) -> Path:
    """The folder that is there and in which ``out`` is, or would be made.

    Raises StoreError for a file or a dangling link in its place.
    """
    there = next(
        (p for p in (out, *out.absolute().parents) if os.path.lexists(p)), Path(out.anchor)
    )
    if not os.path.isdir(there):  # Path.is_dir raises where the user may not look
        raise StoreError(f"{out}: cannot be written ({there} is no folder); choose another --out")
    return there


def _open_gguf(request: Request) -> Model:
    location = request.location
    if request.base is not None:
        raise UsageError("--base is for a delta in Hugging Face's form, not for a GGUF")
    path = location.weights or location.folder
    model = open_gguf(path, allow_requantize=request.allow_requantize)
    keys = {
        **origin_keys(model.keys),
        **template_keys(request.known),
        **provenance_keys(location, model.source.files, request.known),
    }
    return replace(model, keys=keys)


def _open_llama(request: Request) -> Model:
    known, location, folder = request.known, request.location, request.location.folder
    if known.is_delta and request.base is None:
        raise UsageError(
            f"{folder}: a delta, useless until its base is added; name that with --base "
            f"({known.base_repo or 'the model it was made from'})"
        )
    config = read_config(folder / "config.json")
    base = None if request.base is None else _locate_base(request.base, folder)
    window_bytes = WINDOW_BYTES // (1 if base is None else 2)
    source: TensorSource = open_checkpoint(location, window_bytes)
    try:
        if base is not None:
            source = DeltaSource(open_checkpoint(base, window_bytes), source)
        tensors = map_tensors(config, source.tensors, folder)
        keys = {
            **general_keys(location, request.name or location.name, tensors, known.licence),
            **key_values(config),
            **read_tokenizer(folder, config.vocab_size, source.tensors[EMBEDDING].n_rows),
            **template_keys(known),
            **provenance_keys(location, source.files, known, base),
        }
        return Model(keys, tensors, config.shape, source)
    except BaseException:
        source.close()
        raise


def _locate_base(base: str | Location, folder: Path) -> Location:
    location = locate(base) if isinstance(base, str) else base
    if os.path.realpath(location.folder) == os.path.realpath(folder):
        raise UsageError(
            f"{location.folder}: is the delta itself; name the model that it was made from"
        )
    return location


def _plan(request: Request, model: Model) -> Job:
    importance = None
    if request.imatrix is not None:
        matrix = read_imatrix(request.imatrix)
        model = replace(model, keys={**model.keys, **_imatrix_keys(matrix)})
        found = {t.name: weights_for(matrix, t.name, t.shape[-1]) for t in model.tensors}
        importance = {name: weights for name, weights in found.items() if weights is not None}
    digest = gguf.GGUFValue(_inputs_digest(model, request, importance), gguf.GGUFValueType.STRING)
    model = replace(model, keys={**model.keys, "fwlocal.inputs.sha256": digest})
    levels = plan_levels(
        model,
        request.levels,
        request.out,
        _file_name(request),
        split_bytes=request.split_bytes,
        importance=importance,
    )
    job = Job(request, model, importance, levels)
    for file in job.files:
        if file.path.exists() and any(own.lies_at(file.path) for own in model.source.files):
            raise UsageError(f"{file.path}: is the source itself; choose another --out or --name")
    return job


def _file_name(request: Request) -> str:
    """What the files are called, before ``-LEVEL.gguf``. Raises UsageError for no good name."""
    name = request.name or request.location.name
    if request.location.is_gguf and not request.name:  # of a file, without its own level
        name = re.sub(rf"[-.]({'|'.join(LEVELS)})$", "", name, flags=re.IGNORECASE)
    bad = not name.isprintable() or any(sign in name for sign in '/\\:*?"<>|') or name[:1] == "."
    if bad or not name:
        raise UsageError(f"{name!r} is no name for files; choose one with --name")
    return name


def _inputs_digest(model: Model, request: Request, importance: Importance | None) -> str:
    """Of all that the tensors' bytes depend on beside the source's files and the header."""
    digest = hashlib.sha256(b"allow-nan" if request.allow_nan else b"")
    for tensor in model.tensors:
        if tensor.values is not None:
            digest.update(tensor.name.encode() + tensor.values)
    for name, weights in sorted((importance or {}).items()):
        digest.update(name.encode() + weights.tobytes())
    return digest.hexdigest()


def _imatrix_keys(matrix: ImportanceMatrix) -> dict[str, Any]:
    """As llama-quantize notes them."""
    string, u32 = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32
    return {
        "quantize.imatrix.file": gguf.GGUFValue(matrix.path.name, string),
        "quantize.imatrix.dataset": gguf.GGUFValue(", ".join(matrix.datasets), string),
        "quantize.imatrix.entries_count": gguf.GGUFValue(len(matrix.weights), u32),
        "quantize.imatrix.chunks_count": gguf.GGUFValue(matrix.n_chunks, u32),
    }
