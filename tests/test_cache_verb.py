"""``fwlocal cache`` as a user meets it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.cli.cache import cache
from fwlocal.errors import ModelNotFound, RegistryError, StoreError, UsageError
from tests.prefix_cache.kept import SETTING, Machine

Verb = Callable[..., tuple[str, str]]

pytestmark = pytest.mark.usefixtures("home")

WHALE, OTHER = SETTING, replace(SETTING, model="gull", fingerprint="cd" * 32)
FIRST, SECOND, THIRD = ([1000 * n + i for i in range(300 + n)] for n in (1, 2, 3))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, not there yet."""
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefixes"


@pytest.fixture
def kept(folder: Path) -> Machine:
    """Two prompts of a whale, and one of a gull that was used last."""
    machine = Machine(folder)
    machine.put(FIRST, WHALE, 2_000)
    machine.put(SECOND, WHALE, 300_000)
    machine.put(THIRD, OTHER, 4_000)
    return machine


@pytest.fixture
def verb(folder: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """``fwlocal cache ...``: what it prints on stdout and stderr."""

    def run(*arguments: str) -> tuple[str, str]:
        cache.main([*arguments], standalone_mode=False)
        shown = capsys.readouterr()
        return shown.out, shown.err

    return run


def test_list(verb: Verb, kept: Machine) -> None:
    heading, *rows = verb("list")[0].splitlines()
    assert verb()[0].splitlines() == [heading, *rows]

    assert heading.split() == ["MODEL", "TOKENS", "SIZE", "USED"]
    assert [row.split() for row in rows] == [
        ["gull", "303", "5", "kB", "1970-01-12", "13:46:43"],
        ["whale:Q8_0", "302", "301", "kB", "1970-01-12", "13:46:42"],
        ["whale:Q8_0", "301", "3", "kB", "1970-01-12", "13:46:41"],
    ]


def test_list_as_json(verb: Verb, kept: Machine) -> None:
    data = json.loads(verb("list", "--json")[0])

    assert [(entry["model"], entry["tokens"]) for entry in data] == [
        ("gull", 303),
        ("whale:Q8_0", 302),
        ("whale:Q8_0", 301),
    ]
    assert data[0]["last_used"] == "1970-01-12T13:46:43Z"
    assert sorted(Path(entry["path"]) for entry in data) == kept.entries
    assert json.loads(verb("--json")[0]) == data
    with pytest.raises(UsageError, match="--json goes after the verb"):
        verb("--json", "size")
    assert [Path(entry["path"]).stat().st_size for entry in data] == [
        entry["size_bytes"] for entry in data
    ]


def test_an_empty_cache(verb: Verb, folder: Path) -> None:
    out, err = verb("list")
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("fwlocal: no prompt is kept yet; ")
    assert verb("list", "--json")[0] == "[]\n"
    assert verb("size")[0] == f"0 B in 0 prompts (4.0 GiB at most): {folder}\n"
    assert verb("clear") == ("", "fwlocal: no prompt was kept\n")
    assert not folder.exists(), "looking makes no folder"


def test_size(verb: Verb, kept: Machine, folder: Path) -> None:
    assert verb("size")[0] == f"310 kB in 3 prompts (4.0 GiB at most): {folder}\n"
    assert json.loads(verb("size", "--json")[0]) == {
        "path": str(folder),
        "entries": 3,
        "size_bytes": sum(path.stat().st_size for path in kept.entries),
        "bound_bytes": 4 << 30,
    }


def test_clear(verb: Verb, kept: Machine) -> None:
    assert verb("clear") == ("", "fwlocal: 3 prompts forgotten, 310 kB freed\n")
    assert not list(kept.cache.root.iterdir())


@pytest.mark.parametrize("model", ["whale:Q8_0", "whale", "Whale"])
def test_clear_one_model(verb: Verb, kept: Machine, model: str) -> None:
    data = json.loads(verb("clear", model, "--json")[0])

    assert data["removed"] == 2
    assert data["freed_bytes"] > 302_000
    assert len(kept.entries) == 1
    assert kept.common(THIRD, OTHER) == 302


def test_clear_a_model_that_is_not_there(verb: Verb, kept: Machine) -> None:
    with pytest.raises(
        ModelNotFound, match=r"no prompt of gul is in the cache; did you mean gull\?"
    ):
        verb("clear", "gul")
    with pytest.raises(ModelNotFound, match="`fwlocal cache list` tells what is kept"):
        verb("clear", "octopus")
    assert len(kept.entries) == 3


def test_what_a_killed_writer_left_is_cleared_too(verb: Verb, kept: Machine) -> None:
    entry = kept.entries[0]
    left = entry.with_name(f".{entry.name}.1-01234567.new")
    left.write_bytes(bytes(1000))
    (kept.cache.root / "notes").write_text("mine")

    assert json.loads(verb("size", "--json")[0])["size_bytes"] > 311_000
    assert verb("clear")[1].startswith("fwlocal: 3 prompts forgotten, ")

    assert [path.name for path in kept.cache.root.iterdir()] == ["notes"]


def test_a_damaged_entry_is_not_listed(verb: Verb, kept: Machine) -> None:
    kept.entries[0].write_bytes(b"nonsense")

    assert len(json.loads(verb("list", "--json")[0])) == 2
    assert len(kept.entries) == 2


def test_a_time_that_no_clock_shows(verb: Verb, kept: Machine) -> None:
    os.utime(kept.entries[0], (1e11, 1e11))  # as far as the disk can tell such a time

    assert json.loads(verb("list", "--json")[0])[2]["last_used"] is None
    assert verb("list")[0].splitlines()[3].endswith(" -")


def test_a_folder_that_is_none(verb: Verb, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("")

    for arguments in (["list"], ["size"], ["clear"], ["clear", "whale"]):
        with pytest.raises(StoreError, match=r"prefixes: cannot be read .*FWLOCAL_CACHE"):
            verb(*arguments)


def test_a_bad_config_is_told(verb: Verb, home: Path) -> None:
    (home.parent / "config").mkdir()
    (home.parent / "config" / "config.toml").write_text('prefix_cache = "much"\n')

    with pytest.raises((RegistryError, UsageError), match="prefix_cache"):
        verb("size")
