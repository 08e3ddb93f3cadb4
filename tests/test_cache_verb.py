"""``fwlocal cache`` as a user meets it."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from fwlocal.cli.cache import _table, cache
from fwlocal.config import Config, load_config
from fwlocal.errors import ModelNotFound, RegistryError, StoreError, UsageError
from fwlocal.prefix_cache.contents import described, hindrance
from tests.prefix_cache.kept import SETTING, Machine

Verb = Callable[..., tuple[str, str]]

pytestmark = pytest.mark.usefixtures("home")

WHALE, OTHER = SETTING, replace(SETTING, model="gull", fingerprint="cd" * 32)
DAY = datetime.fromtimestamp(1_000_001).strftime("%Y-%m-%d %H:%M").split()  # by this clock
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
        ["gull", "303", "5", "kB", *DAY],
        ["whale:Q8_0", "302", "301", "kB", *DAY],
        ["whale:Q8_0", "301", "3", "kB", *DAY],
    ]


@pytest.mark.parametrize(("columns", "has_time"), [(40, False), (80, True), (120, True)])
def test_list_in_a_terminal_of_any_width(kept: Machine, columns: int, *, has_time: bool) -> None:
    shown = io.StringIO()
    _table(described(kept.cache.root)).show(
        Console(file=shown, width=columns, force_terminal=True, color_system=None)
    )

    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert max(map(len, lines)) <= columns
    assert len(lines) == 4, "a row for each, whole"
    assert ("USED" in lines[0]) == has_time


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
    assert verb("size")[0] == f"0 B in 0 prompts (4.3 GB at most): {folder}\n"
    assert verb("clear") == ("", "fwlocal: no prompt was kept\n")
    assert not folder.exists(), "looking makes no folder"


def test_size(verb: Verb, kept: Machine, folder: Path) -> None:
    assert verb("size")[0] == f"310 kB in 3 prompts (4.3 GB at most): {folder}\n"
    assert json.loads(verb("size", "--json")[0]) == {
        "path": str(folder),
        "entries": 3,
        "size_bytes": sum(path.stat().st_size for path in kept.entries),
        "bound_bytes": 4 << 30,
    }


@pytest.fixture
def config(home: Path) -> Path:
    """The user's config.toml, not there yet."""
    return home.parent / "config" / "config.toml"


def test_the_bound_is_set(verb: Verb, kept: Machine, folder: Path, config: Path) -> None:
    assert verb("size", "2G") == (f"310 kB in 3 prompts (2.1 GB at most): {folder}\n", "")
    assert config.read_text() == 'prefix_cache = "2G"\n'
    assert load_config(config.parent).prefix_cache_bytes == 2 << 30
    assert json.loads(verb("size", " 0.5 GiB ", "--json")[0])["bound_bytes"] == 1 << 29


def test_what_is_more_than_the_bound_leaves(verb: Verb, folder: Path, config: Path) -> None:
    machine = Machine(folder, bound_bytes=4 << 20)
    machine.put(FIRST, WHALE, 900_000)
    machine.put(SECOND, WHALE, 900_000)

    out, err = verb("size", "1M")

    assert out.startswith("901 kB in 1 prompt (1 MB at most): ")
    assert err == "fwlocal: 1 prompt forgotten, 901 kB freed\n"
    assert machine.common(SECOND) == 301, "the one that was used last"


def test_off(verb: Verb, kept: Machine, folder: Path, config: Path) -> None:
    out, err = verb("size", "0")

    assert out == f"0 B in 0 prompts (turned off in config.toml): {folder}\n"
    assert err == "fwlocal: 3 prompts forgotten, 310 kB freed\n"
    assert load_config(config.parent).prefix_cache_bytes == 0
    off = "fwlocal: the prefix cache is off; `fwlocal cache size 4G` turns it on\n"
    assert verb() == verb("list") == ("", off)
    assert verb("list", "--json") == ("[]\n", "")


def test_what_is_kept_while_it_is_off(verb: Verb, kept: Machine, config: Path) -> None:
    config.parent.mkdir()
    config.write_text('prefix_cache = "0"\n')

    out, err = verb()

    assert out.count("\n") == 4
    assert err.startswith("fwlocal: the prefix cache is off; ")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'prefix_cache = "2G"\n'),
        ('keys = "vi"', 'prefix_cache = "2G"\nkeys = "vi"'),
        (
            '# mine\n prefix_cache="9G"  # much\nkeys = "vi"\n',
            '# mine\nprefix_cache = "2G"  # much\nkeys = "vi"\n',
        ),
        ("'prefix_cache' = '9G'", 'prefix_cache = "2G"'),
        ('\ufeff# prefix_cache = "1G"\n', 'prefix_cache = "2G"\n# prefix_cache = "1G"\n'),
    ],
)
def test_all_else_in_the_config_stays(verb: Verb, config: Path, before: str, after: str) -> None:
    config.parent.mkdir()
    config.write_text(before, encoding="utf-8")

    verb("size", "2G")

    assert config.read_text(encoding="utf-8") == after
    assert load_config(config.parent) == Config(
        prefix_cache="2G", keys="vi" if "vi" in before else "emacs"
    )


@pytest.mark.parametrize("most", ["much", "-1", "2X", "100", "", "9999T"])
def test_a_bound_that_is_none(verb: Verb, kept: Machine, config: Path, most: str) -> None:
    with pytest.raises(UsageError, match="MOST"):
        verb("size", "--", most)

    assert not config.exists()
    assert len(kept.entries) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="it has a disk for each drive")
def test_a_bound_larger_than_the_disk(verb: Verb, kept: Machine, config: Path) -> None:
    with pytest.raises(UsageError, match=r"MOST '999T': is more than the .*B of the disk of .*; "):
        verb("size", "999T")

    assert not config.exists()


def test_a_config_that_cannot_be_written_or_read(verb: Verb, config: Path) -> None:
    config.parent.write_text("a file")
    with pytest.raises((RegistryError, StoreError), match="config"):
        verb("size", "2G")
    config.parent.unlink()
    config.parent.mkdir()
    config.write_text("nonsense = 1\n")
    with pytest.raises(RegistryError, match="nonsense"):
        verb("size", "2G")
    assert config.read_text() == "nonsense = 1\n"


def test_why_nothing_new_is_kept(verb: Verb, tmp_path: Path, folder: Path) -> None:
    assert hindrance(folder) == ""
    folder.parent.write_text("a file")

    assert hindrance(folder) == f"{folder.parent} is no folder; set FWLOCAL_CACHE to another one"


@pytest.mark.skipif(sys.platform == "win32", reason="its paths have other limits")
def test_a_folder_that_cannot_exist() -> None:
    assert "cannot be made (File name too long); set" in hindrance(Path("/" + 300 * "a"))


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such folder")
def test_a_folder_of_no_disk() -> None:
    assert hindrance(Path("/proc/prefixes")) in (
        "/proc is no folder of a disk; set FWLOCAL_CACHE to another one",
        "/proc cannot be written; make it writable, or set FWLOCAL_CACHE to another one",
    )


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
