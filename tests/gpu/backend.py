"""llama.cpp's libraries with the CUDA and RPC backends, built from the pinned bindings' own source.

They end in one folder that may be moved: no version in their names, hence no links between them,
and each looks for the others beside itself. What they are used for, this module does not know.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from fwlocal.errors import FwlocalError

ROOT = Path(__file__).parents[2]
NEEDED = ("CMakeLists.txt", "cmake", "ggml", "include", "src")  # of llama.cpp's source
WANTED = ("llama", "ggml", "ggml-base", "ggml-cpu", "ggml-cuda", "ggml-rpc")
BUILT_FROM = "built-from.txt"  # beside the libraries: how they were made
LEFT_OUT = ("COMMON", "TOOLS", "TESTS", "EXAMPLES", "SERVER", "APP")
PIN = re.compile(r'"llama-cpp-python==([0-9.]+)"')
CUDA_HOME = Path("/usr/local/cuda")  # where NVIDIA's installer puts it, often outside PATH

Run = Callable[[Sequence[str]], None]


def pinned(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """The version of llama-cpp-python that fwlocal is made for."""
    found = PIN.search(pyproject.read_text(encoding="utf-8"))
    if found is None:
        raise FwlocalError(f"{pyproject}: pins no llama-cpp-python; put the pin back")
    return found[1]


def cmake_commands(
    source: Path, build: Path, *, nvcc: str, arch: str = "native", jobs: int = 1
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What configures and what builds. ``arch`` is CMake's CUDA_ARCHITECTURES, such as "90"."""
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CUDA_COMPILER": nvcc,
        "CMAKE_CUDA_ARCHITECTURES": arch,
        "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
        "CMAKE_INSTALL_RPATH": "$ORIGIN",
        "BUILD_SHARED_LIBS": "ON",
        "GGML_CUDA": "ON",
        "GGML_RPC": "ON",
        "LLAMA_OPENSSL": "OFF",
        **{f"LLAMA_BUILD_{part}": "OFF" for part in LEFT_OUT},
    }
    configure = ("cmake", "-S", str(source), "-B", str(build))
    return (
        (*configure, *(f"-D{name}={value}" for name, value in options.items())),
        ("cmake", "--build", str(build), "--config", "Release", "--parallel", str(jobs)),
    )


def find_nvcc(which: Callable[[str], str | None] = shutil.which, home: Path = CUDA_HOME) -> str:
    """CUDA's compiler: what CUDACXX names, the one on PATH, or the one where it is installed.

    Raises FwlocalError when it, or cmake, is missing.
    """
    if which("cmake") is None:
        raise FwlocalError("cmake is missing; install it, or name built --libraries")
    installed = home / "bin" / "nvcc"
    found = os.environ.get("CUDACXX") or which("nvcc")
    if found is None and installed.is_file():
        found = str(installed)
    if found is None:
        raise FwlocalError("nvcc is missing; install the CUDA toolkit, or name built --libraries")
    return found


def run_loudly(command: Sequence[str]) -> None:
    """Run it, its output on stderr. Raises FwlocalError when it fails."""
    print("+", *command, file=sys.stderr, flush=True)
    done = subprocess.run(list(command), stdout=sys.stderr.fileno(), check=False)
    if done.returncode:
        raise FwlocalError(f"{command[0]} failed ({done.returncode}); it says above why")


def fetched_source(work: Path, version: str, run: Run = run_loudly) -> Path:
    """llama.cpp's source as llama-cpp-python ``version`` vendors it, unpacked under ``work``."""
    folder = work / f"source-{version}"
    if not folder.exists():
        pin = f"llama-cpp-python=={version}"
        pip = (sys.executable, "-m", "pip", "download", "--disable-pip-version-check")
        run((*pip, "--no-binary", "llama-cpp-python", "--no-deps", "-d", str(work), pin))
        unpack(work / f"llama_cpp_python-{version}.tar.gz", folder)
    return folder / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"


def unpack(archive: Path, folder: Path) -> None:
    """All of the archive in a new ``folder``, which is whole as soon as it is there."""
    growing = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(growing, ignore_errors=True)
    try:
        with tarfile.open(archive) as file:
            file.extractall(growing, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise FwlocalError(f"{archive}: cannot be unpacked ({error}); remove it") from error
    growing.rename(folder)


def buildable(source: Path, work: Path) -> Path:
    """``source``, or a copy of what counts of it with an empty ``vendor`` in the place of the one
    that it lacks: CMake looks in there, the libraries need nothing of it.

    Raises FwlocalError where more than that is missing.
    """
    missing = [name for name in NEEDED if not (source / name).exists()]
    if missing:
        raise FwlocalError(f"{source}: has no {missing[0]}; name a source tree of llama.cpp")
    if (source / "vendor" / "CMakeLists.txt").exists():
        return source
    copy = work / "source"
    for name in NEEDED:
        if (source / name).is_dir():
            shutil.copytree(source / name, copy / name, dirs_exist_ok=True)
        else:
            copy.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, copy / name)
    (copy / "vendor").mkdir(exist_ok=True)
    (copy / "vendor" / "CMakeLists.txt").touch()
    return copy


def collect(build: Path, folder: Path) -> None:
    """Put the libraries that were built anywhere under ``build`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(build.rglob("lib*.so")):
        shutil.copy2(path, folder / path.name)
    check_libraries(folder)


def check_libraries(folder: Path) -> Path:
    """The folder itself. Raises FwlocalError when one that is needed is not in it."""
    for name in WANTED:
        if not (folder / f"lib{name}.so").is_file():
            raise FwlocalError(f"{folder}: has no lib{name}.so; build with CUDA and RPC")
    return folder.absolute()


def built_libraries(
    source: Path | None, work: Path, arch: str, jobs: int, run: Run = run_loudly
) -> Path:
    """The folder of libraries, built unless an earlier run made them in the same way.

    ``source`` None fetches it. Raises FwlocalError.
    """
    folder, note = work / "lib", work / "lib" / BUILT_FROM
    made = f"{source.absolute() if source else pinned()} {arch}\n"
    if note.is_file() and note.read_text(encoding="utf-8") == made:
        return check_libraries(folder)
    nvcc = find_nvcc()
    tree = buildable(source or fetched_source(work, pinned(), run), work)
    for command in cmake_commands(tree, work / "build", nvcc=nvcc, arch=arch, jobs=jobs):
        run(command)
    collect(work / "build", folder)
    note.write_text(made, encoding="utf-8")
    return check_libraries(folder)
