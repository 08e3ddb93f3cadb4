"""Settings that ``fwlocal tune`` found to fit a model and a machine, kept in the cache folder.

They are kept by what a speed depends on: the shape of the model (not its file's name, so that a
copy or a fine-tune of it has them, too), the machine with its llama.cpp, and where the layers are.
How they are measured, and what a load makes of them, is not known here.

A file for each, ``SHAPE-MACHINE-PLACED.json``, written whole. What cannot be read, or is of another
version, is one that is not there: settings can be measured again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fwlocal import hardware
from fwlocal.files import CACHE, remove_all, store_error, user_cache, write_atomically
from fwlocal.gguf import GGUFArray, GGUFHeader
from fwlocal.hardware import Device
from fwlocal.hardware.bandwidth import cpu_model

VERSION = 1
FOLDER = "tuned"
PLACED = ("CPU", "GPU", "both")  # where layers are: none on GPUs, all, or some
NUMA = ("distribute", "isolate", "numactl")  # llama.cpp's strategies
MOST_THREADS = 512  # GGML_MAX_N_THREADS
MOST_BATCH = 1 << 16
_SHORT = 16  # hex digits of a hash in a file's name

_WHOLE: Mapping[str, int] = {
    "n_threads": MOST_THREADS,
    "n_threads_batch": MOST_THREADS,
    "n_batch": MOST_BATCH,
    "n_ubatch": MOST_BATCH,
}
_CHOICES: Mapping[str, tuple[object, ...]] = {
    "flash_attn": ("on", "off"),
    "kv_type": ("f16", "q8_0"),
    "mmap": (True, False),
    "mlock": (True, False),
    "numa": NUMA,
}

_OPEN = ("none", "noisy")  # verdicts that tell nothing of a setting
_OF: Mapping[str, str] = {"n_batch": "n_ubatch"}  # which setting's finding it is a part of


@dataclass(frozen=True)
class Settings:
    """What was found to be better than the default; None is the default. Threads are those of
    decoding and of prefill (``_batch``)."""

    n_threads: int | None = None
    n_threads_batch: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    flash_attn: str | None = None
    kv_type: str | None = None
    mmap: bool | None = None
    mlock: bool | None = None
    numa: str | None = None

    def taken(self) -> dict[str, Any]:
        """Those that are not the default, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NAMES = tuple(field.name for field in fields(Settings))


@dataclass(frozen=True)
class Finding:
    """What one setting brought: ``best`` beside the ``default``, and how many times as fast it was
    (the median of pairs, and the interval that 95 % of resamples lie in), None where nothing was
    measured. ``verdict`` is "taken", "noise" (no gain beyond it), "default", "lossy", "noisy" (too
    much so to tell) or "none" (not tried); ``note`` says more."""

    setting: str
    default: str
    best: str
    verdict: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def is_measured(self) -> bool:
        """It tells whether the default is best."""
        return self.verdict not in _OPEN


@dataclass(frozen=True)
class Where:
    """The machine, as far as it decides how fast a model runs, and the ``build`` of llama.cpp."""

    cpu: str
    performance_cores: int
    physical_cores: int
    logical_cores: int
    gpus: tuple[str, ...]
    build: str


@dataclass(frozen=True)
class Tuned:
    """What is remembered: ``model`` is its name for people, ``shape`` what it is known by, and
    ``placed`` one of PLACED; ``made`` is a time in UTC (ISO 8601)."""

    model: str
    shape: str
    where: Where
    placed: str
    settings: Settings
    findings: tuple[Finding, ...]
    made: str

    @property
    def n_measured(self) -> int:
        """How many of the findings tell something."""
        return sum(finding.is_measured for finding in self.findings)


def merged(before: Tuned | None, now: Tuned) -> Tuned:
    """What was found now, and of what was known before the settings that were not tried again, or
    of which it told nothing this time."""
    if before is None:
        return now
    known = {finding.setting for finding in before.findings if finding.is_measured}
    found = [f for f in now.findings if f.is_measured or f.setting not in known]
    asked = {finding.setting for finding in found}
    stays = {n: v for n, v in before.settings.taken().items() if _OF.get(n, n) not in asked}
    settings = {**stays, **now.settings.taken()}
    if settings.get("flash_attn") == "off":  # which a quantized KV cache needs
        settings.pop("kv_type", None)
    older = (finding for finding in before.findings if finding.setting not in asked)
    return dataclasses.replace(now, settings=Settings(**settings), findings=(*older, *found))


def default_folder() -> Path:
    """Where settings are remembered; it need not exist."""
    return user_cache() / FOLDER


def shape_of(header: GGUFHeader) -> str:
    """64 hex digits for all models that compute alike: architecture, hyper-parameters, and the
    names, shapes and types of the tensors, without vocabulary, template and weights."""
    digest = hashlib.sha256(header.architecture.encode())
    prefix = f"{header.architecture}."
    for key, value in sorted(header.metadata.items()):
        if key.startswith(prefix):
            told = value.data.hex() if isinstance(value, GGUFArray) else repr(value)
            digest.update(f"\n{key}={told}".encode("utf-8", "replace"))
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.name):
        digest.update(f"\n{tensor.name} {tensor.shape} {tensor.type_name}".encode())
    return digest.hexdigest()


def this_machine(gpus: Sequence[Device], build: str) -> Where:
    """This one, with the GPUs that llama.cpp uses and its ``build_info()``."""
    return Where(
        cpu=cpu_model(),
        performance_cores=hardware.performance_cores(),
        physical_cores=hardware.physical_cores(),
        logical_cores=hardware.logical_cores(),
        gpus=tuple(sorted(f"{gpu.backend} {gpu.description}" for gpu in gpus)),
        build=build,
    )


def check_folder(folder: Path) -> None:
    """That something can be kept there, by making the folder and a file in it, which is removed.
    Raises StoreError, DoesNotFit."""
    trial = folder / f"{os.getpid()}.trial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(trial, "{}\n")
        trial.unlink()
    except OSError as error:
        raise store_error(error, folder, CACHE) from error


def keep(folder: Path, tuned: Tuned) -> Path:
    """Remember it, in place of what was known before; its file. Raises StoreError, DoesNotFit."""
    path = _path(folder, tuned.shape, tuned.where, tuned.placed)
    text = json.dumps({"version": VERSION, **asdict(tuned)}, ensure_ascii=False, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text + "\n")
    except OSError as error:
        raise store_error(error, path, CACHE) from error
    return path


def recall(folder: Path, shape: str, where: Where, placed: str) -> Tuned | None:
    """What is remembered of such a model there, its layers so placed."""
    found = _read(_path(folder, shape, where, placed))
    is_it = found is not None and (found.shape, found.where, found.placed) == (shape, where, placed)
    return found if is_it else None


def forget(folder: Path, shape: str) -> int:
    """Forget a model's settings, on whatever machine; how many there were. Raises StoreError."""
    return remove_all(folder.glob(f"{shape[:_SHORT]}-*.json"), CACHE)


def all_kept(folder: Path) -> tuple[Tuned, ...]:
    """All that is remembered, by the models' names and the time."""
    found = (_read(path) for path in folder.glob("*.json"))
    known = [tuned for tuned in found if tuned is not None]
    return tuple(sorted(known, key=lambda tuned: (tuned.model, tuned.placed, tuned.made)))


def _path(folder: Path, shape: str, where: Where, placed: str) -> Path:
    machine = hashlib.sha256(json.dumps(asdict(where), sort_keys=True).encode()).hexdigest()
    return folder / f"{shape[:_SHORT]}-{machine[:_SHORT]}-{placed}.json"


def _read(path: Path) -> Tuned | None:
    """None for a file that is not there, is damaged, or is of another version."""
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict) or data.pop("version") != VERSION:
            return None
        where = data.pop("where")
        findings = tuple(_finding(one) for one in data.pop("findings"))
        found = Tuned(
            where=Where(**{**where, "gpus": tuple(where["gpus"])}),
            settings=_settings(data.pop("settings")),
            findings=findings,
            **data,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    texts = found.model, found.shape, found.made, found.where.cpu, found.where.build
    is_sound = found.placed in PLACED and all(isinstance(text, str) for text in texts)
    return found if is_sound else None


def _settings(data: dict[str, Any]) -> Settings:
    """Raises TypeError for an unknown name, ValueError for a value that no load must be given."""
    found = Settings(**data)
    for name, value in found.taken().items():
        if name in _WHOLE:
            is_sound = type(value) is int and 1 <= value <= _WHOLE[name]
        else:
            is_sound = any(value is choice or value == choice for choice in _CHOICES[name])
            is_sound = is_sound and type(value) is type(_CHOICES[name][0])
        if not is_sound:
            raise ValueError(f"{name} is {value!r}")
    if found.flash_attn == "off" and found.kv_type not in (None, "f16"):
        raise ValueError("a quantized KV cache needs flash attention")
    return found


def _finding(data: dict[str, Any]) -> Finding:
    """Raises TypeError for what is none."""
    found = Finding(**data)
    if not all(isinstance(value, kinds) for value, kinds in _kinds(found)):
        raise TypeError("no finding")
    return found


def _kinds(finding: Finding) -> Iterator[tuple[object, tuple[type, ...]]]:
    numbers = ("ratio", "low", "high")
    for field in dataclasses.fields(finding):
        kinds = (int, float, type(None)) if field.name in numbers else (str,)
        yield getattr(finding, field.name), kinds
