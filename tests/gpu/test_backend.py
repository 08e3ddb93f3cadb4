"""Building llama.cpp's libraries, as far as it goes without a compiler: what is asked of which."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from fwlocal.errors import FwlocalError
from tests.gpu import backend


def test_cmake_is_told_to_build_movable_libraries_with_cuda_and_rpc(tmp_path: Path) -> None:
    configure, build = backend.cmake_commands(
        tmp_path / "s", tmp_path / "b", nvcc="/cuda/nvcc", arch="90", jobs=16
    )
    assert configure[:5] == ("cmake", "-S", str(tmp_path / "s"), "-B", str(tmp_path / "b"))
    for option in (
        "BUILD_SHARED_LIBS=ON",
        "GGML_CUDA=ON",
        "GGML_RPC=ON",
        "CMAKE_CUDA_ARCHITECTURES=90",
        "CMAKE_CUDA_COMPILER=/cuda/nvcc",
        "CMAKE_INSTALL_RPATH=$ORIGIN",
        *(f"LLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TOOLS", "TESTS", "SERVER", "APP")),
    ):
        assert f"-D{option}" in configure
    assert build[:3] == ("cmake", "--build", str(tmp_path / "b"))
    assert build[-2:] == ("--parallel", "16")


def test_the_pin_is_that_of_pyproject(tmp_path: Path) -> None:
    assert backend.pinned().count(".") == 2
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(FwlocalError, match="pins no llama-cpp-python"):
        backend.pinned(tmp_path / "pyproject.toml")


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDACXX", raising=False)
    with pytest.raises(FwlocalError, match="cmake is missing"):
        backend.find_nvcc(lambda name: None)
    with pytest.raises(FwlocalError, match="nvcc is missing"):
        backend.find_nvcc({"cmake": "/bin/cmake"}.get, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").touch()
    assert backend.find_nvcc({"cmake": "c"}.get, tmp_path) == str(tmp_path / "bin" / "nvcc")
    assert backend.find_nvcc({"cmake": "c", "nvcc": "/n"}.get, tmp_path) == "/n"


def source_tree(folder: Path) -> Path:
    """What counts of llama.cpp's source, empty."""
    for name in ("cmake", "ggml", "include", "src"):
        (folder / name).mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text("project(llama)\n")
    return folder


def test_a_source_without_vendor_is_copied_and_completed(tmp_path: Path) -> None:
    source = source_tree(tmp_path / "llama.cpp")
    found = backend.buildable(source, tmp_path / "work")
    assert found != source
    assert (found / "CMakeLists.txt").read_text() == "project(llama)\n"
    assert (found / "vendor" / "CMakeLists.txt").read_text() == ""
    assert not (source / "vendor").exists()
    assert backend.buildable(found, tmp_path / "elsewhere") == found


def test_a_folder_that_is_no_source_is_refused(tmp_path: Path) -> None:
    source = source_tree(tmp_path / "llama.cpp")
    (source / "ggml").rmdir()
    with pytest.raises(FwlocalError, match="has no ggml"):
        backend.buildable(source, tmp_path / "work")


def test_the_source_is_fetched_once(tmp_path: Path) -> None:
    calls: list[Sequence[str]] = []

    def download(command: Sequence[str]) -> None:
        calls.append(command)
        content = b"project(llama)\n"
        with tarfile.open(tmp_path / "llama_cpp_python-1.2.3.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo("llama_cpp_python-1.2.3/vendor/llama.cpp/CMakeLists.txt")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    source = backend.fetched_source(tmp_path, "1.2.3", download)
    assert (source / "CMakeLists.txt").read_text() == "project(llama)\n"
    assert backend.fetched_source(tmp_path, "1.2.3", download) == source
    (command,) = calls
    assert command[-1] == "llama-cpp-python==1.2.3"
    assert "--no-deps" in command
    assert "--no-binary" in command


def test_a_broken_archive_leaves_no_source(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"no archive")
    with pytest.raises(FwlocalError, match=r"a\.tar\.gz: cannot be unpacked"):
        backend.unpack(archive, tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_libraries_are_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDACXX", "/cuda/nvcc")
    monkeypatch.setenv("PATH", str(tmp_path))  # where cmake is found, which is never run
    for name in ("cmake", "cmake.exe"):
        (tmp_path / name).touch(0o755)
    source, work = source_tree(tmp_path / "llama.cpp"), tmp_path / "work"
    calls: list[Sequence[str]] = []

    def build(command: Sequence[str]) -> None:
        calls.append(command)
        (work / "build" / "bin").mkdir(parents=True, exist_ok=True)
        for name in backend.WANTED:
            (work / "build" / "bin" / f"lib{name}.so").write_text(str(len(calls)))

    folder = backend.built_libraries(source, work, "90", 2, build)
    assert [command[1] for command in calls] == ["-S", "--build"]
    assert (folder / "libggml-cuda.so").read_text() == "2"
    assert backend.built_libraries(source, work, "90", 2, build) == folder
    assert len(calls) == 2
    backend.built_libraries(source, work, "80", 2, build)
    assert len(calls) == 4
    (folder / "libggml-rpc.so").unlink()
    with pytest.raises(FwlocalError, match=r"has no libggml-rpc\.so"):
        backend.check_libraries(folder)
