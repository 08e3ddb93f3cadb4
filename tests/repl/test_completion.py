"""What a typed line means, what TAB offers for it, and what is remembered of it."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import StoreError
from fwlocal.repl import completion, history
from fwlocal.repl.completion import (
    Proposal,
    as_message,
    formats,
    looks_like_command,
    offers,
    one_of,
    paths,
    unknown_command,
    word_by_word,
)
from fwlocal.repl.history import HistoryFile, is_kept
from fwlocal.repl.typed import clean, is_open, unquoted
from tests.repl.editor_at_work import Command


def failing(_: str) -> Iterable[Proposal]:
    raise StoreError("the folder cannot be read")


COMMANDS = (
    Command("/help", "show this"),
    Command("/file", "attach", "PATH", paths),
    Command("/format", "take another format", "NAME", formats),
    Command("/ab", "compare", "LEVEL LEVEL", word_by_word(one_of("Q4_K_M", "Q8_0"))),
    Command("/load", "go on", "NAME", failing),
)


def texts(before: str) -> list[str]:
    return [offer.text for offer in offers(before, COMMANDS)]


@pytest.mark.parametrize(
    "text", ["/help", "/hlep", "/set temp 0.2", "/", "/ help", "/?", "/system\nbe kind"]
)
def test_a_slash_and_letters_are_a_command(text: str) -> None:
    assert looks_like_command(text)


@pytest.mark.parametrize(
    "text",
    [
        "/usr/bin is full",
        "/home/x/file.txt explain",
        "/etc/",
        "/notes.txt",
        "/2024",
        "//help",
        "/r/python",
        "whales /help",
        "",
        " ",
    ],
)
def test_a_path_is_no_command(text: str) -> None:
    assert not looks_like_command(text)


def test_a_name_that_there_is_always_is_a_command() -> None:
    assert looks_like_command("/top-k 3", ["/top-k"])
    assert not looks_like_command("/top-k 3")


def test_two_slashes_stand_for_one() -> None:
    assert as_message("//help me") == "/help me"
    assert as_message("/usr/bin") == "/usr/bin"


def test_of_an_unknown_command_the_nearest_is_offered() -> None:
    said = unknown_command("/Hlep me", [command.name for command in COMMANDS])

    assert said == "there is no command /Hlep; did you mean /help? (//Hlep sends it as text)"
    assert "/help lists the commands" in unknown_command("/xyzzy", ["/help"])


def test_commands_are_offered_with_their_help() -> None:
    (only,) = offers("  /h", COMMANDS)

    assert (only.text, only.n_replaced, only.shown, only.meta) == ("/help", 2, "/help", "show this")
    assert texts("/F") == ["/file ", "/format "]
    assert len(texts("/")) == len(COMMANDS)


@pytest.mark.parametrize("before", ["", "whale", "tell /h", "/x", "/help ", "/help x", "/f\n/h"])
def test_nothing_is_offered_for_text(before: str) -> None:
    assert texts(before) == []


def test_an_argument_is_offered_whatever_its_case() -> None:
    assert texts("/format CHATM") == ["chatml"]
    assert texts("/format  chatm") == ["chatml"]


def test_words_are_offered_one_by_one() -> None:
    second = offers("/ab Q8_0 q", COMMANDS)

    assert [(o.text, o.n_replaced, o.shown) for o in second] == [("Q8_0 Q4_K_M", 6, "Q4_K_M")]
    assert texts("/ab ") == ["Q4_K_M", "Q8_0"]


def test_what_cannot_be_read_offers_nothing() -> None:
    assert texts("/load ") == []
    assert texts("/file /no/such/folder/") == []


def test_files_and_folders_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Notes").mkdir()
    (tmp_path / "Notes" / "a b.txt").write_text("12345")
    (tmp_path / ".hidden").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    assert texts("/file n") == ["Notes/"]
    assert texts("/file ") == ["Notes/"]
    assert texts("/file .") == [".hidden"]
    (only,) = offers("/file Notes/A", COMMANDS)
    assert (only.text, only.shown, only.meta) == ("Notes/a b.txt", "a b.txt", "5 B")
    assert texts("/file ~") == ["~/"]
    assert texts("/file ~/No") == ["~/Notes/"]
    assert texts(f"/file {tmp_path}/Notes/a b") == [f"{tmp_path}/Notes/a b.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_that_could_not_be_typed_are_left_out(tmp_path: Path) -> None:
    for name in ("a\x1b[2J", "a\nb", "good"):
        (tmp_path / name).write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "nowhere")

    assert texts(f"/file {tmp_path}/") == [f"{tmp_path}/good"]


def test_models_and_levels_on_this_disk_come_first(home: Path, tiny_gguf: Path) -> None:
    folder = home / "tiny"
    folder.mkdir(parents=True)
    (folder / "tiny-Q8_0.gguf").write_bytes(tiny_gguf.read_bytes())

    names = [name for name, _ in completion.models("")]
    assert names[:2] == ["tiny", "tiny:Q8_0"]
    assert "freewilly2" in names
    assert [level for level, _ in completion.levels("tiny")] == ["Q8_0"]
    assert list(completion.levels("freewilly2")) == []


def test_saved_chats_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FWLOCAL_SESSIONS", str(tmp_path))
    (tmp_path / "whales.jsonl").write_text("")

    assert list(completion.session_names("")) == [("whales", "")]


@pytest.mark.parametrize(
    ("text", "opens", "meant"),
    [
        ("whale", False, "whale"),
        ('"""', True, '"""'),
        ('"""one\ntwo', True, '"""one\ntwo'),
        ('"""one\ntwo"""', False, "one\ntwo"),
        ('"""\none\n"""\n', False, "one"),
        ('"""one"""', False, "one"),
        ('"""doc""" is what?', False, '"""doc""" is what?'),
        ('"""\nx = """doc""" + y', True, '"""\nx = """doc""" + y'),
        ('"""/help"""', False, "//help"),
        ('see """this', False, 'see """this'),
        ('"""""', True, '"""""'),
    ],
)
def test_triple_quotes(text: str, opens: bool, meant: str) -> None:
    assert (is_open(text), unquoted(text)) == (opens, meant)


@given(st.text(st.characters(), max_size=50))
def test_cleaned_text_can_be_written_anywhere(text: str) -> None:
    cleaned = clean(text)

    cleaned.encode()
    assert "\r" not in cleaned
    assert clean(cleaned) == cleaned


def test_cleaning_keeps_all_that_is_sound() -> None:
    assert clean("a\tb\r\nc\rd\x1b 鯨 \U0001f40b") == "a\tb\nc\nd\x1b 鯨 \U0001f40b"
    assert clean("caf\udce9 \ud83d\udc0b") == "caf\ufffd \U0001f40b"


def opened(path: Path | None) -> tuple[HistoryFile, list[str]]:
    said: list[str] = []
    return HistoryFile(path, said.append), said


def test_the_history_gives_back_what_was_typed(tmp_path: Path) -> None:
    first, _ = opened(tmp_path / "new" / "history")
    for text in ('two\nlines "quoted"', "/help", "鯨"):
        first.add(text)

    again, said = opened(first.path)
    assert again.read() == ['two\nlines "quoted"', "/help", "鯨"]
    assert said == []
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "new" / "history").stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="no such permissions")
def test_a_history_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("")
    path.chmod(0o644)
    opened(path)[0].add("whale")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_of_a_damaged_history_what_is_whole_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b'"one"\n\xff\xfe\x00{]\n{"a": 1}\n3\n"two"\n"cut off in the mid')
    found, said = opened(path)

    assert found.read() == ["one", "two"]
    found.add("three")
    assert found.read() == ["one", "two", "three"]
    assert said == []


@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_history(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("history") / "history"
    path.write_bytes(data)
    found, said = opened(path)
    found.add("last")

    assert found.read()[-1] == "last"
    assert said == []


def test_the_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_BYTES", 1000)
    path = tmp_path / "history"
    path.write_text("".join(f'"message {n}"\n' for n in range(1000)))
    found, _ = opened(path)

    entries = found.read()
    assert entries[-1] == "message 999"
    assert len(entries) < 100
    assert path.stat().st_size <= 1000
    assert [p.name for p in tmp_path.iterdir()] == ["history"]
    found.add("x" * history.MOST_ENTRY_BYTES)
    assert found.read() == entries


@pytest.mark.parametrize("kind", ["below a file", "a folder"])
def test_without_a_usable_history_it_goes_on_and_says_so_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "history" if kind == "below a file" else tmp_path
    found, said = opened(path)

    found.add("one")
    found.add("two")
    assert found.read() == []
    assert len(said) == 1
    assert str(path) in said[0]
    assert "not kept" in said[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_no_history(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found, said = opened(tmp_path / "pipe")

    assert found.read() == []
    assert len(said) == 1


def test_without_a_path_nothing_is_kept() -> None:
    found, said = opened(None)
    found.add("secret")

    assert (found.read(), said) == ([], [])


def test_what_begins_with_a_space_is_not_kept() -> None:
    assert [is_kept(text) for text in ("whale", "/help", " secret", "", "\n")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_where_the_history_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FWLOCAL_HISTORY", str(tmp_path / "mine"))
    assert history.default_history_path() == tmp_path / "mine"
    monkeypatch.delenv("FWLOCAL_HISTORY")
    assert history.default_history_path().parent.name.startswith("fwlocal")


def test_a_line_of_the_history_is_readable_by_hand(tmp_path: Path) -> None:
    opened(tmp_path / "history")[0].add("鯨\nsings")

    assert json.loads((tmp_path / "history").read_text(encoding="utf-8")) == "鯨\nsings"
