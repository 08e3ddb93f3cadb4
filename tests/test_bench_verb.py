"""``fwlocal bench``: what it prints and writes, and what it refuses before hours pass."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from fwlocal.bench.result_file import read_result
from tests.conftest import TEMPLATE, Run
from tests.here import one_line, running_here
from tests.tiny_llama import write_gguf

QUICK = ("--threads", "1", "-p", "16", "-n", "4", "-d", "0,32", "-r", "1", "--no-cold")
SHORT = ("--n-ctx", "32", "--chunks", "2")

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def here(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    with running_here(monkeypatch, capsys) as run:
        yield run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files of one tokenizer."""
    folder = tmp_path_factory.mktemp("levels")
    one, two = (
        write_gguf(folder / f"{name}.gguf", seed=seed, template=TEMPLATE)
        for name, seed in (("a-whale", 0), ("b-other", 1))
    )
    return one, two


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "sea.txt"
    words = Random(0).choices(("the", "whale", "sings", "and", "sea"), k=100)
    path.write_text(" ".join(words), encoding="utf-8")
    return path


def test_a_table_on_stdout_and_nothing_else(
    here: Run, files: tuple[Path, Path], text: Path
) -> None:
    done = here("bench", *files, *QUICK, *SHORT, "--text", text)

    assert done.returncode == 0, done.stderr
    assert done.stderr == "fwlocal: reference: a-whale, the most bits per weight\n"
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == "LEVEL"
    assert {"pp16", "tg4", "PPL", "KLD"} <= set(lines[0].split())
    assert [line.split()[0] for line in lines[1:3]] == ["a-whale", "b-other"]
    assert "sea.txt" in done.stdout


def test_csv_markdown_and_json(
    here: Run, files: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    command = ("bench", *files, *QUICK, *SHORT, "--text", text)

    rows = list(csv.DictReader(io.StringIO(here(*command, "--csv", "--json", out).stdout)))
    assert [row["label"] for row in rows] == ["a-whale", "b-other"]
    result = read_result(out)
    assert result.reference == "a-whale"
    quality = result.levels[1].quality
    assert quality is not None
    assert float(rows[1]["kld_mean"]) == pytest.approx(quality.kld_mean.value)
    assert here(*command, "--md").stdout.startswith("|")
    printed = json.loads(here(*command, "--json", "-").stdout)
    assert [level["label"] for level in printed["levels"]] == ["a-whale", "b-other"]


def test_a_plot(here: Run, files: tuple[Path, Path], text: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "levels.svg"
    done = here("bench", *files, *QUICK, *SHORT, "--text", text, "--plot", plot)

    assert done.returncode == 0, done.stderr
    assert "b-other" in plot.read_text(encoding="utf-8")


def test_two_results_side_by_side(
    here: Run, files: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    command = ("bench", *files, *QUICK, *SHORT, "--text", text)
    here(*command, "--json", tmp_path / "before.json")
    here(*command, "--fresh", "--json", tmp_path / "after.json")
    done = here("bench", "--compare", tmp_path / "before.json", tmp_path / "after.json")

    assert done.returncode == 0, done.stderr
    assert "before.json" in done.stdout
    assert "a-whale" in done.stdout
    assert "noise" in done.stdout


def test_wishes_become_a_command(here: Run, files: tuple[Path, Path], text: Path) -> None:
    done = here("bench", *files, *QUICK, *SHORT, "--text", text, "--max-kld", "0.001")
    assert f"fwlocal chat -m {files[0]}" in done.stdout

    nothing = here("bench", *files, *QUICK, *SHORT, "--text", text, "--min-tps", "1e9")
    assert nothing.returncode == 1
    assert "no level" in nothing.stdout
    assert "fwlocal chat" not in nothing.stdout
    assert "no level reaches 1e+09 tok/s" in nothing.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        (("--no-speed", "--no-quality"), 2, "leave nothing to measure"),
        (("-p", "0", "-n", "0", "--no-quality"), 2, "leave nothing to measure"),
        (("--until", "nan"), 2, "--until nan: must be a number"),
        (("--max-kld", "nan"), 2, "--max-kld nan: must be a number"),
        (("--json", "."), 2, "--json .: is a folder"),
        (("--json", "no-such/a.json"), 2, "--json no-such/a.json: there is no folder"),
        (("--no-quality", "--until", "0.1"), 2, "--until is about quality; leave it or --no-q"),
        (("--no-quality", "--max-kld", "1"), 2, "--max-kld is about quality; leave it or --no-q"),
        (("--no-quality", "--chunks", "32"), 2, "--chunks is about quality; leave it or --no-q"),
        (("--no-quality", "--n-ctx", "64"), 2, "--n-ctx is about quality; leave it or --no-qual"),
        (("--no-speed", "--min-tps", "1"), 2, "--min-tps is about speed; leave it or --no-speed"),
        (("--no-speed", "-r", "3"), 2, "--repetitions is about speed; leave it or --no-speed"),
        (("--no-speed", "-d", "0"), 2, "--depths is about speed; leave it or --no-speed out"),
        (("-n", "0", "--min-tps", "1"), 2, "--min-tps is about decoding; leave it or -n 0 out"),
        (("-m", "whale"), 2, "-m names a model, and FILES others; leave one of them out"),
        (("--levels", ""), 2, "--levels '': names no level"),
        (("--levels", " , "), 2, "--levels ' , ': names no level"),
        (("--csv", "--md"), 2, "both go to stdout"),
        (("--json", "-", "--csv"), 2, "both go to stdout"),
        (("--plot", "levels.pdf"), 2, ".png or .svg"),
        (("--depths", "many"), 2, "--depths 'many'"),
        (("--depths", ","), 2, "--depths ','"),
        (("--memory", "huge"), 2, "--memory 'huge'"),
        (("--text", "no-such.txt"), 2, "no-such.txt"),
        (("--prompts", "no-such.jsonl"), 1, "no-such.jsonl"),
        (("--reference", "Q9_9"), 2, "--reference Q9_9"),
        (("--n-ctx", "4096", "--text"), 2, "too short"),
        (("--levels", "Q8_0"), 2, "--levels is for a model"),
    ],
)
def test_refused_in_one_line(
    here: Run,
    files: tuple[Path, Path],
    text: Path,
    options: tuple[str, ...],
    exit_code: int,
    said: str,
) -> None:
    if options[-1] == "--text":
        options = (*options, str(text))
    done = here("bench", *files, *options)

    assert done.returncode == exit_code
    assert one_line(done.stderr), done.stderr
    assert said in done.stderr
    assert done.stdout == ""


def test_results_that_are_none(here: Run, tmp_path: Path) -> None:
    other, newer = tmp_path / "other.json", tmp_path / "newer.json"
    other.write_text('{"text": "Paris"}', encoding="utf-8")
    newer.write_text('{"schema": 99}', encoding="utf-8")

    for path, said in ((other, "no result of a benchmark"), (newer, "schema version 99")):
        done = here("bench", "--compare", path, path)
        assert done.returncode == 1
        assert one_line(done.stderr)
        assert said in done.stderr


@pytest.mark.parametrize(
    ("more", "vain"),
    [(("x.gguf",), "FILES"), (("-m", "whale"), "--model"), (("--chunks", "32"), "--chunks")],
)
def test_a_comparison_measures_nothing(here: Run, more: tuple[str, ...], vain: str) -> None:
    done = here("bench", *more, "--compare", "a.json", "b.json")
    assert done.returncode == 2
    assert f"--compare measures nothing; leave {vain} out" in done.stderr


def test_help_stands_under_headings(here: Run) -> None:
    lines = here("bench", "--help").stdout.splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert [heading.split()[0] for heading in headings] == [
        "What", "Speed:", "Quality:", "Wishes", "Output:", "Engine"
    ]  # fmt: skip


def test_until_may_read_all_of_the_text(
    here: Run, files: tuple[Path, Path], tmp_path: Path
) -> None:
    long = tmp_path / "long.txt"
    words = Random(0).choices(("the", "whale", "sings", "and", "sea"), k=700)
    long.write_text(" ".join(words), encoding="utf-8")
    command = ("bench", *files, "--threads", "1", "--no-speed", "--n-ctx", "32", "--text", long)
    done = here(*command, "--until", "1e-9", "--json", "-")

    levels = json.loads(done.stdout)["levels"]
    assert levels[1]["quality"]["n_chunks"] > 32

    alone = here(*command[:2], *command[3:], "--until", "1e-9", "--json", "-")
    assert "--until waits for nothing: " in alone.stderr
    assert json.loads(alone.stdout)["levels"][0]["quality"]["n_chunks"] == 32


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_keeps_what_is_measured(
    files: tuple[Path, Path], text: Path, home: Path, tmp_path: Path
) -> None:
    command = ("bench", *map(str, files), "--threads", "1", "-p", "16", "-n", "4", "-d", "0")
    command += ("-r", "400", "--no-cold", *SHORT, "--text", str(text))
    program = subprocess.Popen(
        [sys.executable, "-m", "fwlocal", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    kept = home / ".bench"
    deadline = time.monotonic() + 60
    while len(list(kept.glob("*/round-*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    stdout, stderr = program.communicate(timeout=60)

    assert program.returncode == 130
    assert b"a-whale" in stdout
    assert b"the same command goes on" in stderr
    assert len(list(kept.glob("*/round-*.json"))) >= 4
