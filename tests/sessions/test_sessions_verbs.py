"""``fwlocal sessions`` as a user meets it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fwlocal.sessions.folder import Folder
from tests.conftest import Run
from tests.sessions.conftest import Kept

Verb = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("home")


def test_list(verb: Verb, fwlocal: Run, whales: Path) -> None:
    heading, row = verb().stdout.splitlines()
    assert heading.split() == ["NAME", "TURNS", "MODEL", "USED", "BEGINS"]
    assert row.split()[:3] == ["whales", "2", "whale:Q8_0"]
    assert row.endswith("Do whales sing?")
    assert fwlocal("sessions").stdout == verb().stdout

    (data,) = json.loads(verb("list", "--json").stdout)
    assert (data["session"], data["turns"], data["path"]) == ("whales", 2, str(whales))
    assert json.loads(verb("--json").stdout) == [data]


def test_an_empty_list(verb: Verb, folder: Folder) -> None:
    done = verb()

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "fwlocal: no chat is saved yet; `fwlocal chat` saves as it goes\n"


def test_show(verb: Verb, whales: Path) -> None:
    head, *rest = verb("show", "whales").stdout.split("\n\n")

    assert head == "# whales"
    assert rest[1:5] == ["## System", "be kind", "## User", "Do whales sing?"]
    assert rest[5:7] == ["## Assistant", "They **do**."]

    data = json.loads(verb("show", "whales", "--json").stdout)
    assert (data["session"], data["model"], data["prompt_format"]) == (
        "whales", "whale:Q8_0", "chatml",
    )  # fmt: skip
    assert [message["role"] for message in data["messages"][:3]] == ["system", "user", "assistant"]
    assert data["messages"][2]["seed"] == 42


def test_a_damaged_file_is_shown_and_not_touched(verb: Verb, whales: Path) -> None:
    whales.write_bytes(damaged := whales.read_bytes() + b'{"event": "us')
    done = verb("show", "whales")

    assert "Nobody knows." in done.stdout
    assert done.stderr == f"fwlocal: {whales}: line 6 is cut off; the rest is whole\n"
    assert whales.read_bytes() == damaged


def test_search(verb: Verb, whales: Path) -> None:
    assert verb("search", "NOBODY").stdout == "whales  2 assistant: Nobody knows.\n"
    hits = json.loads(verb("search", "wh", "--json").stdout)
    assert [(hit["turn"], hit["role"]) for hit in hits] == [(1, "user"), (2, "user")]
    done = verb("search", "dolphin")
    assert (done.returncode, done.stderr) == (1, "fwlocal: 'dolphin' is in no saved chat\n")


def test_export(verb: Verb, whales: Path, tmp_path: Path) -> None:
    paper, data = tmp_path / "a.md", tmp_path / "a.json"
    assert verb("export", "whales", paper).returncode == 0
    assert verb("export", "whales", data).returncode == 0

    assert paper.read_text() == verb("show", "whales").stdout
    shown = json.loads(verb("show", "whales", "--json").stdout)
    assert json.loads(data.read_text()) == shown
    again = verb("export", "whales", paper)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    other = verb("export", "whales", tmp_path / "a.pdf")
    assert (other.returncode, "in .md or .json" in other.stderr) == (2, True)
    gone = verb("export", "whales", tmp_path / "no" / "a.md")
    assert (gone.returncode, "choose another place" in gone.stderr) == (1, True)


def test_a_models_escapes_stay_inert(verb: Verb, whales: Path) -> None:
    whales.write_bytes(whales.read_bytes().replace(b"**do**", b"\\u001b[2J"))

    assert "\x1b" not in verb("show", "whales").stdout
    assert "\x1b" not in verb("search", "[2J").stdout


def test_rm_asks_and_removes(verb: Verb, whales: Path) -> None:
    asked = verb("rm", "whales")
    assert (asked.returncode, whales.exists()) == (2, True)
    assert verb("rm", "whales", "gone", "--yes").returncode == 1
    assert whales.exists()

    done = verb("rm", "whales", "--yes")
    assert (done.returncode, done.stderr) == (0, "fwlocal: whales removed\n")
    assert not whales.exists()


def test_rm_goes_on_to_the_next(verb: Verb, folder: Folder, whales: Path) -> None:
    Kept(folder).begin().say("hello", "hi").recorder.close()
    done = verb("rm", "whales", "2026-01-01-hello", "whales", "-y")

    assert done.stderr == "fwlocal: whales removed\nfwlocal: 2026-01-01-hello removed\n"
    assert folder.names() == []


def test_a_file_that_cannot_be_read_is_named_and_the_others_listed(
    verb: Verb, folder: Folder, whales: Path
) -> None:
    newer = folder.root / "newer.jsonl"
    newer.write_bytes(whales.read_bytes().replace(b'"version": 1', b'"version": 9'))
    done = verb()
    assert (done.stdout.count("whales"), done.returncode) == (2, 0)
    assert done.stderr == f"fwlocal: {newer}: format 9 is of a newer fwlocal; update fwlocal\n"
    assert verb("search", "nobody").stdout == "whales  2 assistant: Nobody knows.\n"
    assert verb("show", "newer").returncode == 1

    assert verb("rm", "newer", "--yes").returncode == 0
    assert folder.names() == ["whales"]


def test_files_that_were_put_there_by_hand(verb: Verb, folder: Folder, whales: Path) -> None:
    """A name that no chat would take; files that are no sessions; a time before all calendars."""
    whales.rename(folder.root / "my whales.jsonl")
    os.utime(folder.root / "my whales.jsonl", (0, 0))
    for other in (".hidden.jsonl", "notes.txt", "my whales.jsonl.damaged"):
        (folder.root / other).write_text("?")
    (folder.root / "folder.jsonl").mkdir()
    (data,) = json.loads(verb("list", "--json").stdout)
    assert (data["session"], data["last_used"]) == ("my whales", "1970-01-01T00:00:00Z")
    assert verb("search", "nobody").stdout.startswith("my whales  2 assistant")
    assert verb("show", "my whales").stdout.startswith("# my whales\n")
    assert verb("rm", "my whales", "--yes").returncode == 0
    assert verb("show", "../sessions/x").returncode == 1


def test_halves_of_characters_do_no_harm(verb: Verb, whales: Path, tmp_path: Path) -> None:
    whales.write_bytes(whales.read_bytes().replace(b"**do**", b"\\ud83d do"))

    assert "They ? do." in verb("show", "whales").stdout
    assert json.loads(verb("show", "whales", "--json").stdout)["messages"][2]["content"] == (
        "They \ud83d do."
    )
    assert verb("search", "They").returncode == 0
    for file in (tmp_path / "a.md", tmp_path / "a.json"):
        assert verb("export", "whales", file).returncode == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--continue", "--session", "x"), "exclude each other"),
        (("--no-save", "--continue"), "--no-save keeps nothing"),
        (("--session", "x"), "stdin is none"),
    ],
)
def test_options_that_make_no_sense(
    fwlocal: Run, folder: Folder, options: tuple[str, ...], words: str
) -> None:
    done = fwlocal("chat", *options, stdin="hi")

    assert done.returncode == 2
    assert words in done.stderr
