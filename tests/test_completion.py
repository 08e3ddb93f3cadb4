"""What is offered after a TAB."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import CompletionItem

from fwlocal.cli import cli
from fwlocal.completion import any_model, format_name, level_name, pullable_model, stored_model
from fwlocal.store import Store
from fwlocal.store.manifest import Manifest, ManifestFile, write_manifest
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("home")

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@pytest.fixture
def whale(home: Path) -> None:
    """A model on this disk, from a repository."""
    (home / "whale").mkdir(parents=True)
    (home / "whale" / "whale-F32.gguf").write_bytes(b"GGUF")
    file = ManifestFile("whale-F32.gguf", 4, None)
    manifest = Manifest("whale", "F32", (file,), "download", "owner/Whale-GGUF")
    write_manifest(Store(home).manifest_path("whale", "F32"), manifest)


def items(complete: Completer, incomplete: str, verb: str = "run") -> list[CompletionItem]:
    command = cli.commands[verb]
    return complete(click.Context(command, info_name=verb), command.params[0], incomplete)


def offered(complete: Completer, incomplete: str, verb: str = "run") -> list[str]:
    return [item.value for item in items(complete, incomplete, verb)]


def test_names_and_levels_of_what_can_be_run(whale: None) -> None:
    assert offered(any_model, "freew") == ["freewilly2", "freewilly1"]
    assert offered(any_model, "WHA") == ["whale", "whale:F32"]
    assert offered(stored_model, "") == ["whale", "whale:F32"]
    (file,) = items(any_model, "./mod")
    assert (file.value, file.type) == ("./mod", "file")


def test_what_can_be_pulled(whale: None, home: Path) -> None:
    (home / "waif").mkdir()
    (home / "waif" / "waif-F32.gguf").touch()  # from nobody knows where

    assert offered(pullable_model, "ST") == ["stable-beluga-13b", "stable-beluga-7b"]
    assert offered(pullable_model, "w") == ["whale"]
    assert offered(pullable_model, "own") == ["owner/Whale-GGUF"]
    assert offered(pullable_model, "zzz") == []  # no files: they cannot be pulled


def test_the_levels_of_what_can_be_pulled(whale: None) -> None:
    levels = offered(pullable_model, "freewilly2:")
    assert levels[0] == "freewilly2:Q2_K"
    assert "freewilly2:Q8_0" in levels  # converted
    assert offered(pullable_model, "freewilly2:q4_k") == ["freewilly2:Q4_K_S", "freewilly2:Q4_K_M"]
    assert offered(pullable_model, "smollm2-135m:") == ["smollm2-135m:Q4_1"]
    assert offered(pullable_model, "owner/Whale-GGUF:") == ["owner/Whale-GGUF:F32"]
    assert offered(pullable_model, "none:") == []


def test_levels_separated_by_commas() -> None:
    assert offered(level_name, "q5_k") == ["Q5_K_S", "Q5_K_M"]
    assert offered(level_name, "Q4_K_M,Q8") == ["Q4_K_M,Q8_0"]
    assert "Q8_0,Q8_0" not in offered(level_name, "Q8_0,")


def test_formats() -> None:
    assert offered(format_name, "") == ["freewilly2", "freewilly1", "chatml", "gguf"]
    assert offered(format_name, "", "convert") == ["freewilly2", "freewilly1", "chatml"]


@pytest.mark.parametrize("complete", [any_model, stored_model])
def test_a_broken_configuration_completes_to_files(complete: Completer, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file, not a folder")
    (item,) = items(complete, "fre")
    assert item.type == "file"
    assert items(pullable_model, "fre") == items(pullable_model, "freewilly2:") == []


@pytest.mark.parametrize("words", ["fwlocal run -m fre", "fwlocal show wh", "fwlocal rm wh"])
def test_the_shell_asks_the_program(words: str, fwlocal: Run, whale: None) -> None:
    shell = {"_FWLOCAL_COMPLETE": "bash_complete", "COMP_WORDS": words}
    done = fwlocal(env={**shell, "COMP_CWORD": str(len(words.split()) - 1)})
    assert any(line.startswith("plain,") for line in done.stdout.splitlines()), done.stderr


def test_it_imports_nothing_heavy(whale: None) -> None:
    code = (
        "import sys, click\n"
        "from fwlocal import completion\n"
        "for name in 'any_model stored_model pullable_model level_name format_name'.split():\n"
        "    for incomplete in '', 'freewilly2:':\n"
        "        context = click.Context(click.Command('pull'))\n"
        "        getattr(completion, name)(context, None, incomplete)\n"
        "heavy = 'llama_cpp', 'numpy', 'rich', 'huggingface_hub', 'httpx', 'psutil', 'convert'\n"
        "loaded = [name for name in sys.modules if name.startswith(heavy)]\n"
        "assert not loaded, loaded\n"
    )
    settings: dict[str, Any] = {"env": dict(os.environ), "check": True, "capture_output": True}
    subprocess.run([sys.executable, "-c", code], **settings)
