"""Names of sessions, and which was used last."""

from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import StoreError, UsageError
from fwlocal.locks import Busy
from fwlocal.sessions.completion import session_name
from fwlocal.sessions.folder import Folder, NoSuchSession, default_folder
from tests.sessions.conftest import Kept


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", ".x", "a b", "NUL", "x" * 101, "鯨" * 90]
)
def test_bad_names(folder: Folder, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a session"):
        folder.path(name)


@given(st.text())
def test_any_first_words_make_a_name(words: str) -> None:
    path = next(Folder(Path("nowhere")).free_paths(words, date(2026, 1, 1)))

    assert path.name.startswith("2026-01-01-")
    assert len(path.name.encode()) < 255


def test_the_one_used_last_is_first(folder: Folder) -> None:
    for age, name in enumerate(("new", "old", "older")):
        Kept(folder).begin().say(name, "hi").recorder.close()
        os.utime(folder.path(f"2026-01-01-{name}"), (1e9 - age, 1e9 - age))

    assert folder.names() == ["2026-01-01-new", "2026-01-01-old", "2026-01-01-older"]
    assert folder.newest() == "2026-01-01-new"


def test_a_clock_that_was_put_back(folder: Folder) -> None:
    """What it says was used tomorrow was used before all that is used now."""
    tomorrow = time.time() + 86_400
    for name, used in (("tomorrow", tomorrow), ("later", tomorrow + 1), ("now", time.time())):
        Kept(folder).begin().say(name, "hi").recorder.close()
        os.utime(folder.path(f"2026-01-01-{name}"), (used, used))

    assert folder.names() == ["2026-01-01-now", "2026-01-01-later", "2026-01-01-tomorrow"]


def test_what_is_no_file_is_no_session(folder: Folder) -> None:
    (folder.root / "whales.jsonl").mkdir(parents=True)

    with pytest.raises(StoreError, match="it is no file; move it elsewhere"):
        folder.path("whales")
    with pytest.raises(NoSuchSession):
        folder.existing("whales")


@pytest.mark.skipif(os.name != "posix", reason="Windows lets few make links")
def test_removing_a_link_leaves_what_it_leads_to(folder: Folder, whales: Path) -> None:
    (folder.root / "link.jsonl").symlink_to(whales)
    kept = Kept(folder)
    kept.recorder.open("whales")
    with pytest.raises(Busy):
        folder.remove("link")
    kept.recorder.close()
    folder.remove("link")

    assert folder.names() == ["whales"]


def test_without_any_there_is_nothing_to_go_on_with(folder: Folder) -> None:
    with pytest.raises(NoSuchSession, match="`fwlocal chat` begins one"):
        folder.newest()


def test_the_nearest_name_is_offered(folder: Folder, whales: Path) -> None:
    with pytest.raises(NoSuchSession, match="no session whale; did you mean whales"):
        folder.existing("whale")


def test_removing_takes_the_damaged_lines_along(folder: Folder, whales: Path) -> None:
    whales.write_bytes(b"nonsense\n" + whales.read_bytes())
    kept = Kept(folder)
    kept.recorder.open("whales")
    with pytest.raises(Busy):
        folder.remove("whales")
    kept.recorder.close()
    folder.remove("whales")

    assert list(folder.root.iterdir()) == []


def test_names_after_a_tab(whales: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offered(incomplete: str) -> list[str]:
        context = click.Context(click.Command("show"))
        return [i.value for i in session_name(context, click.Argument(["name"]), incomplete)]

    assert (offered("WHA"), offered("x")) == (["whales"], [])
    monkeypatch.setenv("FWLOCAL_SESSIONS", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    assert offered("") == []


def test_the_folder_is_where_it_is_said(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_folder() == folder
    monkeypatch.delenv("FWLOCAL_SESSIONS")
    assert default_folder().root.parts[-2:] == ("fwlocal", "sessions")
