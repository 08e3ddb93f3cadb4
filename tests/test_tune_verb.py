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
from fwlocal.errors import UsageError

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
    assert told[0].startswith("fwlocal: tuning tiny takes about ")
    assert told[1].startswith("fwlocal: n_ubatch: ")
    assert len(told) == 4
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
