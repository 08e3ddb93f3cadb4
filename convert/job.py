"""A conversion as it is asked for, and as it was found to be possible, from headers alone.

``prepare`` finds all that can be known to be wrong before anything is written;
``convert.run.run_job`` does the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf

from convert.checkpoint import Location, locate, open_checkpoint
from convert.delta import DeltaSource
from convert.gguf_file import open_gguf
from convert.imatrix import ImportanceMatrix, read_imatrix, weights_for
from convert.llama import EMBEDDING, map_tensors
from convert.llama_config import key_values, read_config
from convert.metadata import Known, general_keys, provenance_keys, template_keys
from convert.model import Model
from convert.pipeline import Importance
from convert.plan import PlannedFile, PlannedLevel, plan_levels
from convert.recipes import Level
from convert.tokenizer import read_tokenizer
from fwlocal.errors import UsageError


@dataclass(frozen=True)
class Request:
    """What the user asks for; ``name`` "" takes the source's, ``split_bytes`` 0 never splits."""

    location: Location
    levels: tuple[Level, ...]
    out: Path
    name: str = ""
    base: str | None = None
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
    def source_bytes(self) -> int:
        """Bytes of the source's files."""
        return sum(path.stat().st_size for path in self.model.source.files)

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


def _open_gguf(request: Request) -> Model:
    location = request.location
    if request.base is not None:
        raise UsageError("--base is for a delta in Hugging Face's form, not for a GGUF")
    path = location.weights or location.folder
    model = open_gguf(path, allow_requantize=request.allow_requantize)
    keys = {
        **model.keys,
        **template_keys(request.known),
        **provenance_keys(location, model.source.files, request.known),
    }
    return Model(keys, model.tensors, model.shape, model.source)


def _open_llama(request: Request) -> Model:
    known, location, folder = request.known, request.location, request.location.folder
    if known.is_delta and request.base is None:
        raise UsageError(
            f"{folder}: a delta, useless until its base is added; name that with --base "
            f"({known.base_repo or 'the model it was made from'})"
        )
    config = read_config(folder / "config.json")
    source = open_checkpoint(location)
    try:
        if request.base is not None:
            source = DeltaSource(open_checkpoint(locate(request.base)), source)
        tensors = map_tensors(config, source.tensors, folder)
        keys = {
            **general_keys(folder, request.name or location.name, tensors, known.licence),
            **key_values(config),
            **read_tokenizer(folder, config.vocab_size, source.tensors[EMBEDDING].n_rows),
            **template_keys(known),
            **provenance_keys(location, source.files, known),
        }
        return Model(keys, tensors, config.shape, source)
    except BaseException:
        source.close()
        raise


def _plan(request: Request, model: Model) -> Job:
    importance = None
    if request.imatrix is not None:
        matrix = read_imatrix(request.imatrix)
        model = Model(
            {**model.keys, **_imatrix_keys(matrix)}, model.tensors, model.shape, model.source
        )
        found = {t.name: weights_for(matrix, t.name, t.shape[-1]) for t in model.tensors}
        importance = {name: weights for name, weights in found.items() if weights is not None}
    name = request.name or request.location.name
    levels = plan_levels(
        model,
        request.levels,
        request.out,
        name,
        split_bytes=request.split_bytes,
        importance=importance,
    )
    job = Job(request, model, importance, levels)
    sources = {path.resolve() for path in model.source.files}
    for file in job.files:
        if file.path.resolve() in sources:
            raise UsageError(f"{file.path}: is the source itself; choose another --out or --name")
    return job


def _imatrix_keys(matrix: ImportanceMatrix) -> dict[str, Any]:
    """As llama-quantize notes them."""
    string, u32 = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32
    return {
        "quantize.imatrix.file": gguf.GGUFValue(matrix.path.name, string),
        "quantize.imatrix.dataset": gguf.GGUFValue(", ".join(matrix.datasets), string),
        "quantize.imatrix.entries_count": gguf.GGUFValue(len(matrix.weights), u32),
        "quantize.imatrix.chunks_count": gguf.GGUFValue(matrix.n_chunks, u32),
    }
