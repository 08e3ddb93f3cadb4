"""``fwlocal run --draft`` as a user meets it: refused in one line, or the same answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_llama, tiny_mamba
from tests.conftest import Run
from tests.here import running_here
from tests.paired_llama import write_pair

LARGE = tiny_llama.Shape(num_hidden_layers=6)
PROMPT = "the whale sings " * 12


@pytest.fixture
def run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    with running_here(monkeypatch, capsys) as run:
        yield run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drafts")
    tiny_llama.write_gguf(folder / "large.gguf", LARGE)
    short = tiny_llama.Shape(num_hidden_layers=1, max_position_embeddings=128)
    tiny_llama.write_gguf(folder / "short.gguf", short)
    tiny_mamba.write_gguf(folder / "mamba.gguf")
    words = tuple((f"word{n}", -50.0, 1) for n in range(200))
    other = tiny_llama.Shape(
        num_hidden_layers=1, vocab_size=len(tiny_llama.vocabulary()) + len(words)
    )
    tiny_llama.write_gguf(folder / "other.gguf", other, extra_tokens=words)
    whole = (folder / "short.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[:-5000])
    (folder / "text.gguf").write_text("no model\n" * 9, encoding="utf-8")
    return folder


def ask(run: Run, folder: Path, draft: str, *more: str) -> tuple[int, str, str]:
    named = str(folder / draft) if draft.endswith(".gguf") else draft
    options = ("--raw", "--threads=1", "--temp=0", "--max-tokens=24", "--no-cache", *more)
    done = run("run", PROMPT, "-m", folder / "large.gguf", "--draft", named, *options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("draft", "code", "said"),
    [
        ("other.gguf", 2, "other.gguf has another vocabulary than large.gguf: it has 473 tokens"),
        ("large.gguf", 2, "a draft must be smaller than the model it drafts for"),
        ("mamba.gguf", 2, "the draft mamba.gguf keeps a state"),
        ("cut.gguf", 1, "cut.gguf: truncated"),
        ("text.gguf", 1, "text.gguf: no GGUF file"),
        ("nowhere.gguf", 1, "nowhere.gguf: no such file"),
        ("nobody", 1, "no model is called 'nobody'"),
        ("stable-beluga-7b", 1, "fwlocal pull stable-beluga-7b"),
    ],
)
def test_a_draft_that_cannot_is_refused(
    run: Run, folder: Path, draft: str, code: int, said: str
) -> None:
    done = ask(run, folder, draft)

    assert done[:2] == (code, "")
    assert said in done[2]
    assert len(done[2].splitlines()) == 1


def test_a_draft_ends_where_its_training_does_and_the_answer_goes_on(
    run: Run, folder: Path
) -> None:
    """The prompt alone is longer than all that this draft knows."""
    drafted, plain = ask(run, folder, "short.gguf"), ask(run, folder, "off")

    assert drafted == plain
    assert drafted[0] == 0


@pytest.mark.parametrize("n_batch", [1, 2])
def test_no_more_is_evaluated_at_once_than_a_batch_holds(
    fwlocal: Run, tmp_path: Path, n_batch: int
) -> None:
    """llama.cpp would abort the process."""
    pair = write_pair(tmp_path, agreement_percent=95)
    asked = ("run", "whale", "--raw", "-m", pair.target, "--draft", pair.draft, "--no-lossless")
    options = ("--threads=1", "--temp=0", "--repeat-penalty=1", "--max-tokens=90", "--json")

    done = fwlocal(*asked, *options, f"--n-batch={n_batch}")

    assert done.returncode == 0, done.stderr
    assert n_batch > 1 or json.loads(done.stdout)["drafted_tokens"] == 0


def test_stats_tell_which_model_drafts_and_where(run: Run, folder: Path) -> None:
    done = ask(run, folder, "short.gguf", "--stats", "--lookup=off")

    assert "; short drafts, layers: 2 on CPU" in done[2]
    assert " drafts, " not in ask(run, folder, "off", "--stats", "--lookup=off")[2]
