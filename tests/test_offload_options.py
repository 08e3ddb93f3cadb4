"""The options of offloading at the command line: each wrong value is one line with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal import hardware, llama
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("home")


def asking(model: Path) -> tuple[str, ...]:
    """The command that asks for a token."""
    return ("run", "-m", str(model), "--prompt-format", "chatml", "--max-tokens", "1", "hi")


@pytest.mark.parametrize(
    ("option", "value", "exit_code", "said"),
    [
        ("--n-gpu-layers", "-1", 2, "--n-gpu-layers '-1': must be a number of layers, or auto"),
        ("--n-gpu-layers", "lots", 2, "must be a number of layers, or auto"),
        ("--gpu-memory", "5 bananas", 2, "--gpu-memory '5 bananas': is not a size"),
        ("--gpu-memory", "-8G", 2, "--gpu-memory '-8G': is not a size"),
        ("--gpu-margin", "nan", 2, "--gpu-margin 'nan': is not a size"),
        ("--kv", "q9_9", 2, "is not one of"),
        ("--workers", "127.0.0.1:1", 4, "127.0.0.1:1: no one listens there"),
        ("--workers", "http://127.0.0.1:1", 2, "without http://"),
        ("--workers", "::1", 2, "RPC knows IPv4 only"),
    ],
)
def test_a_wrong_value(
    fwlocal: Run, tiny_gguf: Path, option: str, value: str, exit_code: int, said: str
) -> None:
    done = fwlocal("run", "-m", str(tiny_gguf), "--prompt-format", "chatml", option, value, "hi")

    assert done.returncode == exit_code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--n-gpu-layers", "999"), "so --n-gpu-layers does nothing"),
        (("--gpu-memory", "20G"), "so --gpu-memory does nothing"),
    ],
)
def test_what_has_no_effect_is_told(
    fwlocal: Run, tiny_gguf: Path, options: tuple[str, ...], said: str
) -> None:
    if hardware.machine(llama.devices()).gpus:
        pytest.skip("there is a GPU")
    done = fwlocal(*asking(tiny_gguf), *options)

    assert done.returncode == 0
    assert said in done.stderr


def test_workers_of_config_toml_are_asked(fwlocal: Run, home: Path, tiny_gguf: Path) -> None:
    config = home.parent / "config"
    config.mkdir()
    (config / "config.toml").write_text('workers = ["127.0.0.1:1"]\n')
    arguments = asking(tiny_gguf)

    assert fwlocal(*arguments).returncode == 4
    assert fwlocal(*arguments, "--workers", "").returncode == 0
