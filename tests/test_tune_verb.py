"""``fwlocal tune``: what it tells, what it keeps, and what it refuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fwlocal import tuned
from fwlocal.cli.tune import tune
from fwlocal.draft import KnownWidths
from fwlocal.errors import Interrupted, StoreError, UsageError
from fwlocal.hardware import Machine, Memory
from fwlocal.llama.native_context import ContextOptions
from fwlocal.loader.exact_rows import ExactRows
from fwlocal.offload import Request, footprint, make_plan
from fwlocal.tune.run import Outcome, Run
from fwlocal.whole import read_whole

QUICK = ("--only", "n_ubatch,numa", "-r", "2", "--n-gpu-layers", "0")


@pytest.fixture(autouse=True)
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where settings are remembered; what --quiet changes of the log is put back."""
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "cache"))
    log = logging.getLogger("fwlocal")
    level = log.level
    yield tuned.default_folder()
    log.setLevel(level)


def run(*arguments: str | Path, fails: bool = False) -> Result:
    done = CliRunner().invoke(tune, [*map(str, arguments)], standalone_mode=False)
    assert fails or done.exception is None, done.output
    return done


def test_measure_show_and_forget(tiny_gguf: Path, folder: Path) -> None:
    measured = run(tiny_gguf, *QUICK)

    assert measured.stdout.splitlines()[0].split() == ["SETTING", "DEFAULT", "BEST", "SPEED"]
    assert [row.split()[0] for row in measured.stdout.splitlines()[1:]] == ["n_ubatch", "numa"]
    told = measured.stderr.splitlines()
    assert told[0] == "fwlocal: tuning tiny: trying it out ..."
    assert told[1].startswith("fwlocal: tuning tiny takes about ")
    assert " about 0 s" not in told[1]
    assert told[2].startswith("fwlocal: n_ubatch: ")
    assert len(told) == 5
    assert len(list(folder.iterdir())) == 1

    shown = run(tiny_gguf, "--show", "--json")
    data = json.loads(shown.stdout)
    assert [finding["setting"] for finding in data["findings"]] == ["n_ubatch", "numa"]
    assert run(tiny_gguf, "--show").stdout == measured.stdout

    assert "are forgotten" in run(tiny_gguf, "--forget").stderr
    assert not list(folder.iterdir())
    assert "nothing is remembered" in run(tiny_gguf, "--show").stderr
    assert json.loads(run(tiny_gguf, "--show", "--json").stdout) is None
    assert json.loads(run(tiny_gguf, "--forget", "--json").stdout) == {"forgotten": 0}


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    tiny_gguf: Path, folder: Path
) -> None:
    folder.parent.mkdir()
    folder.write_text("no folder")

    done = run(tiny_gguf, *QUICK, fails=True)

    assert isinstance(done.exception, StoreError)
    assert str(folder) in str(done.exception)
    assert "FWLOCAL_CACHE" in str(done.exception)
    assert done.stderr == ""


def test_a_run_that_is_stopped_keeps_nothing(
    tiny_gguf: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: Run) -> Outcome:
        raise Interrupted(exit_code=143)

    monkeypatch.setattr(Run, "measure", stopped)

    done = run(tiny_gguf, *QUICK, fails=True)

    assert isinstance(done.exception, Interrupted)
    assert str(done.exception) == "stopped; nothing of it is kept"
    assert done.exception.exit_code == 143
    assert done.stderr == "fwlocal: tuning tiny: trying it out ...\n"
    assert not [path for path in folder.parent.rglob("*") if path.is_file()]


def test_what_is_exact_is_forgotten_with_the_settings(tiny_gguf: Path, folder: Path) -> None:
    header = read_whole(tiny_gguf)
    plan = make_plan(footprint(header), Machine(Memory(1 << 34, 1 << 34), ()), Request(512))
    ExactRows(header, plan, ContextOptions(512, 1)).keep(KnownWidths((2,), (), (), ()))
    assert list((folder.parent / "exact").iterdir())

    assert "are forgotten" in run(tiny_gguf, "--forget").stderr

    assert not list((folder.parent / "exact").iterdir())


def test_quiet_tells_nothing_but_the_result(tiny_gguf: Path) -> None:
    done = run(tiny_gguf, *QUICK, "--quiet", "--json")

    assert done.stderr == ""
    assert json.loads(done.stdout)["placed"] == "CPU"


def test_what_was_found_before_stays_where_it_is_not_tried_again(tiny_gguf: Path) -> None:
    run(tiny_gguf, "--only", "n_ubatch", "-r", "2", "--n-gpu-layers", "0")
    done = run(tiny_gguf, "--only", "numa", "--n-gpu-layers", "0", "--json")

    settings = [finding["setting"] for finding in json.loads(done.stdout)["findings"]]
    assert settings == ["n_ubatch", "numa"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--only", "n_whales"), "--only 'n_whales': must be of n_threads, "),
        (("--show", "--forget"), "exclude each other"),
    ],
)
def test_what_is_refused(tiny_gguf: Path, arguments: tuple[str, ...], problem: str) -> None:
    done = run(tiny_gguf, *arguments, fails=True)

    assert isinstance(done.exception, UsageError)
    assert problem in str(done.exception)


def test_a_pair_is_no_interval(tiny_gguf: Path) -> None:
    done = run(tiny_gguf, "-r", "1", fails=True)

    assert isinstance(done.exception, click.BadParameter)
