"""``fwlocal convert`` as a user calls it, and ``verify`` and ``show`` of what it wrote."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from fwlocal.engine import Engine
from fwlocal.gguf import read_header
from fwlocal.loader import EngineOptions, Library, open_model
from fwlocal.prompts import FREEWILLY2, Message, text_of
from tests.conftest import Run
from tests.convert.checkpoints import write_checkpoint
from tests.tiny_llama import Shape

SHAPE = Shape(256, 256, 2, 4, 2, vocab_size=512)
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of no known model."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "whale", SHAPE)


@pytest.fixture(scope="module")
def beluga(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in a folder that bears a known repository's name."""
    return write_checkpoint(tmp_path_factory.mktemp("known") / "StableBeluga2", SHAPE)


def test_a_known_models_levels_go_to_the_models_folder(
    beluga: Path, home: Path, fwlocal: Run
) -> None:
    done = fwlocal("convert", beluga, "--quant", "q8_0,Q4_K_M")
    folder = home / "freewilly2"
    assert done.stdout.splitlines() == [
        str(folder / "freewilly2-Q8_0.gguf"),
        str(folder / "freewilly2-Q4_K_M.gguf"),
    ]
    listed = {model["name"]: model for model in json.loads(fwlocal("models", "--json").stdout)}
    assert {on_disk["level"] for on_disk in listed["freewilly2"]["on_disk"]} == {"Q8_0", "Q4_K_M"}
    answer = fwlocal("run", "-m", "freewilly2:Q8_0", "--max-tokens", "4", "Sing")
    assert answer.returncode == 0


def test_a_converted_file_knows_its_prompt_format_under_any_name(
    beluga: Path, tmp_path: Path, fwlocal: Run, library: Library
) -> None:
    fwlocal("convert", beluga, "-q", "Q8_0", "-o", tmp_path)
    path = (tmp_path / "freewilly2-Q8_0.gguf").rename(tmp_path / "anything.gguf")
    loaded = open_model(str(path), library=library)
    assert loaded.prompt_format == "freewilly2"
    assert (loaded.engine.system or "").startswith("You are Free Willy")
    assert loaded.engine.stop == FREEWILLY2.stop
    loaded.engine.close()
    messages = [Message("system", "Sing."), Message("user", "Who?")]
    as_template = open_model(str(path), EngineOptions(prompt_format="gguf"), library=library)
    assert isinstance(as_template.engine, Engine)
    rendered = as_template.engine.prompt_segments(messages)
    assert text_of(rendered) == text_of(FREEWILLY2.render(messages))
    as_template.engine.close()


def test_the_format_can_be_named_for_an_unknown_model(
    checkpoint: Path, tmp_path: Path, fwlocal: Run, library: Library
) -> None:
    assert fwlocal("convert", checkpoint, "-q", "Q8_0", "-o", tmp_path).returncode == 0
    bare = fwlocal("run", "-m", tmp_path / "whale-Q8_0.gguf", "Sing")
    assert "carries no chat template" in bare.stderr
    arguments = ("-q", "Q8_0", "-o", tmp_path, "--prompt-format", "freewilly1", "--name", "first")
    fwlocal("convert", checkpoint, *arguments)
    loaded = open_model(str(tmp_path / "first-Q8_0.gguf"), library=library)
    assert loaded.prompt_format == "freewilly1"
    loaded.engine.close()


def test_a_known_delta_needs_its_base(tmp_path: Path, fwlocal: Run) -> None:
    delta = write_checkpoint(tmp_path / "FreeWilly1-Delta-SafeTensor", SHAPE)
    base = write_checkpoint(tmp_path / "llama-65b", SHAPE, seed=1)
    refused = fwlocal("convert", delta, "-q", "Q8_0", "-o", tmp_path)
    assert refused.returncode == 2
    assert "--base (huggyllama/llama-65b)" in refused.stderr
    done = fwlocal("convert", delta, "-q", "Q8_0", "-o", tmp_path, "--base", base)
    assert done.stdout == f"{tmp_path / 'freewilly1-Q8_0.gguf'}\n"
    files = list(read_header(tmp_path / "freewilly1-Q8_0.gguf").metadata["fwlocal.source.files"])  # type: ignore[arg-type]
    assert files == ["model.safetensors", "model.safetensors"]


def test_a_file_of_another_format_keeps_it(beluga: Path, tmp_path: Path, fwlocal: Run) -> None:
    arguments = ("-q", "Q8_0", "-o", tmp_path, "--prompt-format", "chatml")
    assert fwlocal("convert", beluga, *arguments).returncode == 0
    shown = fwlocal("prompt", "-m", tmp_path / "freewilly2-Q8_0.gguf", "Sing")
    assert "<|im_start|>user\nSing" in shown.stdout


def test_only_a_delta_has_a_base(beluga: Path, checkpoint: Path, fwlocal: Run) -> None:
    done = fwlocal("convert", beluga, "--base", checkpoint)
    assert done.returncode == 2
    assert "is no delta" in done.stderr


def test_a_split_level_is_one_level(beluga: Path, home: Path, fwlocal: Run) -> None:
    done = fwlocal("convert", beluga, "-q", "F32", "--split-size", "1M")
    first = Path(done.stdout.strip())
    assert first.name.startswith("freewilly2-F32-00001-of-0000")
    listed = {model["name"]: model for model in json.loads(fwlocal("models", "--json").stdout)}
    sizes = [part.stat().st_size for part in first.parent.glob("*.gguf")]
    assert [(m["level"], m["size_bytes"]) for m in listed["freewilly2"]["on_disk"]] == [
        ("F32", sum(sizes))
    ]
    assert fwlocal("run", "-m", "freewilly2:F32", "--max-tokens", "2", "Sing").returncode == 0
    assert "all hashes agree" in fwlocal("verify", "freewilly2:F32").stdout


def test_the_levels_are_listed(fwlocal: Run) -> None:
    done = fwlocal("convert", "--list-levels")
    assert done.returncode == 0
    assert any(line.startswith("Q4_K_M ") for line in done.stdout.splitlines())


def test_a_dry_run_says_what_would_stop_a_run(
    checkpoint: Path, tmp_path: Path, fwlocal: Run
) -> None:
    (tmp_path / "whale-Q8_0.gguf").write_bytes(b"something else")
    done = fwlocal("convert", checkpoint, "-q", "Q8_0", "-o", tmp_path, "--dry-run")
    assert done.returncode == 2
    assert "(exists)" in done.stdout
    assert "--overwrite replaces it" in done.stderr


def test_a_dry_run_tells_the_files_as_they_will_be(
    checkpoint: Path, tmp_path: Path, fwlocal: Run
) -> None:
    arguments = ("convert", checkpoint, "-q", "Q4_K_M,F16", "-o", tmp_path / "out", "--dry-run")
    shown = fwlocal(*arguments)
    assert not (tmp_path / "out").exists()
    assert "whale-Q4_K_M.gguf" in shown.stdout
    plan = json.loads(fwlocal(*arguments, "--json").stdout)
    fwlocal(*arguments[:-1])
    for level in plan["levels"]:
        header = read_header(Path(level["files"][0]))
        assert level["size_bytes"] == header.weights_bytes
        assert level["file_size_bytes"] == header.file_size_bytes
        assert sum(level["types"].values()) == len(header.tensors) == plan["tensors"]
    assert plan["estimated_s"] >= 0


def test_verify_names_the_damaged_tensor(checkpoint: Path, tmp_path: Path, fwlocal: Run) -> None:
    fwlocal("convert", checkpoint, "-q", "Q4_K_M", "-o", tmp_path)
    path = tmp_path / "whale-Q4_K_M.gguf"
    sound = fwlocal("verify", path)
    assert sound.returncode == 0
    assert "21 tensors, all hashes agree" in sound.stdout
    header = read_header(path)
    tensor = header.tensors[7]
    with path.open("r+b") as file:
        file.seek(header.data_offset + tensor.offset + 40)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    damaged = fwlocal("verify", path)
    assert damaged.returncode == 3
    assert f"{tensor.name}: its SHA-256 differs" in damaged.stderr
    (verdict,) = json.loads(fwlocal("verify", path, "--json").stdout)
    assert verdict["path"] == str(path)
    assert verdict["damaged"] == [{"tensor": tensor.name, "what": "its SHA-256 differs"}]


def test_show_tells_what_a_file_holds(checkpoint: Path, tmp_path: Path, fwlocal: Run) -> None:
    fwlocal("convert", checkpoint, "-q", "Q4_K_M", "-o", tmp_path)
    path = tmp_path / "whale-Q4_K_M.gguf"
    shown = fwlocal("show", path)
    assert "in 21 tensors" in shown.stdout
    assert "llama.embedding_length" in fwlocal("show", path, "--metadata").stdout
    facts = json.loads(fwlocal("show", path, "--json").stdout)
    assert facts["metadata"]["fwlocal.source"] == "whale"
    assert sum(share["tensors"] for share in facts["types"].values()) == 21
    assert facts["tensors"][0] == {
        "name": "output.weight",
        "type": "Q6_K",
        "shape": [256, 512],
        "size_bytes": 107520,
    }
    assert fwlocal("show", tmp_path / "none.gguf").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{checkpoint}", "-q", "Q4_K_X"), 2, "'Q4_K_X'; did you mean Q4_K_S? known: Q2_K"),
        (("{checkpoint}", "-q", ","), 2, "names no level"),
        (("{checkpoint}", "-q", "IQ2_M"), 2, "IQ2_M needs an importance matrix"),
        (("{checkpoint}", "--split-size", "2X"), 2, "2G"),
        (("{checkpoint}", "--prompt-format", "alpaca"), 2, "there are freewilly2"),
        (("{checkpoint}", "--imatrix", "none.gguf"), 1, "none.gguf: cannot be read"),
        (("{checkpoint}", "--base", "none"), 2, "none: no such folder or file"),
        (("none",), 2, "none: no such folder or file"),
        (("stabilityai/StableBeluga-7B",), 4, "not whole on this disk, nor to be had from the Hub"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_and_at_once(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fwlocal: Run,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    fwlocal("--version")  # so that the interpreter's own start is warm
    started = time.monotonic()
    done = fwlocal("convert", *(text.format(checkpoint=checkpoint) for text in arguments))
    assert time.monotonic() - started < 5
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_checkpoint_of_a_read_only_folder_is_left_alone(
    checkpoint: Path, tmp_path: Path, fwlocal: Run
) -> None:
    copy = tmp_path / "whale"
    shutil.copytree(checkpoint, copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    copy.chmod(0o500)
    fwlocal("convert", copy, "-q", "Q8_0", "-o", tmp_path)
    copy.chmod(0o700)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
