"""What a user installs: the wheel holds models.toml and works without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "models.toml",
    "fwlocal",
    "convert",
    "tests",
    "Makefile",
    "LICENSE",
    "CHANGELOG.md",
    ".ci",
    ".gitignore",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_both_packages_and_models_toml(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert {"fwlocal/models.toml", "fwlocal/repl/loop.py", "convert/__init__.py"} <= names
    assert not any(name.startswith("tests") for name in names)


def test_the_installed_wheel_finds_its_models(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = "from fwlocal.registry import load_registry, shipped_file\n"
    code += "print(shipped_file(), *load_registry().models)"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )

    path, *models = done.stdout.split()
    assert Path(path) == site / "fwlocal" / "models.toml"
    assert "freewilly2" in models


def test_the_pinned_bindings_are_the_installed_ones() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    installed = subprocess.run(
        [sys.executable, "-c", "import llama_cpp; print(llama_cpp.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert f'"llama-cpp-python=={installed.stdout.strip()}"' in text


def test_the_top_level_is_tidy() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}

    assert names <= TOP_LEVEL
