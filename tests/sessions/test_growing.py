"""Chats whose file is damaged, or cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fwlocal.errors import StoreError, UsageError
from fwlocal.locks import Busy
from fwlocal.sessions.folder import Folder
from fwlocal.sessions.growing import read_file
from fwlocal.sessions.reading import Session
from tests.sessions.conftest import Kept


def texts(session: Session | None) -> list[str]:
    assert session is not None
    return [turn.text for turn in session.turns]


def test_a_damaged_file_is_mended_when_a_chat_goes_on(folder: Folder, whales: Path) -> None:
    lines = whales.read_bytes().splitlines(keepends=True)
    rest, cut = b"".join(lines[:-1]), lines[-1][:20]
    whales.write_bytes(rest + cut)
    kept = Kept(folder)
    session = kept.recorder.open("whales")
    kept.recorder.close()

    assert session is not None
    assert (session.n_turns, session.unanswered) == (1, "Why?")
    assert whales.read_bytes() == rest
    assert whales.with_name("whales.jsonl.damaged").read_bytes() == cut + b"\n"
    assert kept.told == [
        f"{whales}: line 5 is cut off: set aside in whales.jsonl.damaged; the rest is whole"
    ]
    assert folder.names() == ["whales"]


def test_a_file_that_lost_its_last_newline_gets_it_back(folder: Folder, whales: Path) -> None:
    whole = whales.read_bytes()
    whales.write_bytes(whole[:-1])
    kept = Kept(folder)
    kept.recorder.open("whales")
    kept.recorder.close()

    assert (whales.read_bytes(), kept.told) == (whole, [])


def test_a_newer_format_is_refused_and_left_alone(folder: Folder, whales: Path) -> None:
    newer = whales.read_bytes().replace(b'"version": 1', b'"version": 2')
    whales.write_bytes(newer)

    with pytest.raises(StoreError, match=r"format 2 is of a newer fwlocal; update fwlocal"):
        Kept(folder).recorder.open("whales")
    assert whales.read_bytes() == newer


@pytest.fixture
def no_folder(tmp_path: Path) -> Folder:
    """A folder that nobody can make, root neither."""
    (tmp_path / "file").touch()
    return Folder(tmp_path / "file" / "sessions")


def test_where_nothing_can_be_written_the_chat_goes_on(no_folder: Folder, folder: Folder) -> None:
    kept = Kept(no_folder).begin().say("hello", "hi").say("and?", "no")

    (line,) = kept.told
    assert line.startswith(f"{no_folder.root}: cannot be written (")
    assert line.endswith("); this chat goes on unsaved until it can be")
    assert texts(kept.recorder.session) == ["hello", "hi", "and?", "no"]
    with pytest.raises(StoreError, match="set FWLOCAL_SESSIONS to another folder"):
        kept.recorder.save()

    kept.recorder.folder = folder  # there is a place after all
    kept.recorder.save("late")
    kept.say("now?", "yes")
    kept.recorder.close()
    assert texts(read_file(folder.path("late")))[::2] == ["hello", "and?", "now?"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_can_still_be_read(folder: Folder, whales: Path) -> None:
    folder.root.chmod(0o500)
    kept = Kept(folder)
    try:
        assert len(texts(kept.recorder.open("whales"))) == 4
    finally:
        folder.root.chmod(0o700)
    assert "this chat goes on unsaved" in kept.told[0]


def test_what_could_not_be_written_is_written_as_soon_as_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "sessions").touch()  # in place of the folder
    kept = Kept(Folder(tmp_path / "sessions")).begin().say("hello", "hi").say("and?", "no")
    assert (len(kept.told), kept.recorder.path) == (1, None)
    (tmp_path / "sessions").unlink()
    kept.say("now?", "yes")
    path = kept.recorder.path
    kept.recorder.close()

    assert path is not None
    assert kept.told[1:] == [f"{path}: it can be written again; all that was said is saved"]
    assert texts(read_file(path))[::2] == ["hello", "and?", "now?"]


def test_so_is_a_chat_that_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "sessions").touch()
    kept = Kept(Folder(tmp_path / "sessions"))
    kept.recorder.open("named")
    kept.begin().say("hello", "hi")
    (tmp_path / "sessions").unlink()
    kept.recorder.close()

    assert texts(read_file(tmp_path / "sessions" / "named.jsonl")) == ["hello", "hi"]


def test_an_end_that_could_not_be_saved_is_told(no_folder: Folder) -> None:
    kept = Kept(no_folder).begin().say("hello", "hi")
    kept.recorder.close()

    assert kept.told[1:] == ["the end of this chat could not be saved"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from fwlocal.sessions.folder import Folder
from tests.sessions.conftest import Kept, result

kept = Kept(Folder(Path(sys.argv[1]))).begin().say("hello", "hi")
size = kept.recorder.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, resource.RLIM_INFINITY))
kept.conversation.ask("and?")
kept.pieces(*["x" * 400] * 3)
kept.conversation.answered(result("y"))
full = Path(sys.argv[1], "2026-01-01-hello.jsonl").read_bytes()
assert full.endswith(bytes([10])) and b"xxx" not in full, full
kept.say("full", "?")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
kept.say("now?", "yes")
kept.recorder.close()
print(*kept.told, sep=chr(10))
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such limit")
def test_a_full_disk_that_is_emptied(folder: Folder) -> None:
    """No file may grow past 300 more bytes: half a line is taken back; later all of it is there."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder.root)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    path = folder.path("2026-01-01-hello")

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{path}: cannot be written (File too large); this chat goes on unsaved until it can be",
        f"{path}: it can be written again; all that was said is saved",
    ]
    session = read_file(path)
    assert texts(session) == ["hello", "hi", "and?", "y", "full", "?", "now?", "yes"]
    assert session.damages == ()


def test_a_chat_goes_on_in_what_a_link_leads_to(folder: Folder, whales: Path) -> None:
    elsewhere = folder.root.parent / "elsewhere.jsonl"
    whales.rename(elsewhere)
    try:
        whales.symlink_to(elsewhere)
    except OSError:
        pytest.skip("no links here")
    elsewhere.write_bytes(elsewhere.read_bytes() + b"nonsense\n")
    first, second = Kept(folder), Kept(Folder(folder.root.parent))
    session = first.recorder.open("whales")
    with pytest.raises(Busy, match="session elsewhere"):
        second.recorder.open("elsewhere")
    assert session is not None
    first.conversation = session.conversation()
    first.conversation.on_change = first.recorder.note
    first.say("more?", "yes")
    first.recorder.save("renamed")
    first.say("again?", "yes")
    with pytest.raises(Busy):
        second.recorder.open("elsewhere")
    first.recorder.close()

    assert (folder.root / "renamed.jsonl").is_symlink()
    assert texts(read_file(elsewhere))[-4::2] == ["more?", "again?"]
    assert (folder.root / "renamed.jsonl.damaged").read_bytes() == b"nonsense\n"


def test_a_file_in_which_nothing_is_whole_begins_anew(folder: Folder, whales: Path) -> None:
    whales.write_bytes(b"{}\n\0\0\0")
    kept = Kept(folder)
    with pytest.raises(UsageError, match="the session whales holds nothing that was said"):
        kept.recorder.open("whales", must_exist=True)
    assert kept.recorder.open("whales") is None
    kept.begin().say("hello", "hi").recorder.close()

    assert kept.told[0].endswith("set aside in whales.jsonl.damaged; nothing in it is whole")
    assert whales.with_name("whales.jsonl.damaged").read_bytes() == b"{}\n\0\0\0\n"
    session = read_file(whales)
    assert (texts(session), session.header is None) == (["hello", "hi"], False)


@pytest.mark.parametrize("start", [b"\xff\xfe{", b"\xfe\xff{"])
def test_utf_16_is_refused_and_left_alone(folder: Folder, whales: Path, start: bytes) -> None:
    whales.write_bytes(start)
    with pytest.raises(StoreError, match="save it as UTF-8"):
        Kept(folder).recorder.open("whales")
    assert whales.read_bytes() == start


def test_a_file_too_large_for_a_chat_is_not_read(folder: Folder, whales: Path) -> None:
    with whales.open("r+b") as file:
        file.truncate(2 << 30)  # a hole
    with pytest.raises(StoreError, match=r"2.1 GB are no chat; move the file elsewhere"):
        Kept(folder).recorder.open("whales")


def test_wherever_it_was_cut_the_chat_goes_on(folder: Folder) -> None:
    kept = Kept(folder).begin().say("hello", "hi")
    path = kept.recorder.path
    assert path is not None
    kept.recorder.close()
    data = path.read_bytes()
    for cut in range(0, len(data), 19):  # of every byte, the tests of reading tell
        path.write_bytes(data[:cut])
        again = Kept(folder)
        session = again.recorder.open(path.stem)
        if session is None:
            again.begin()
        else:
            again.conversation = session.conversation()
            again.conversation.on_change = again.recorder.note
        again.say("more?", "yes")
        again.recorder.close()
        after = read_file(path)
        assert after.damages == ()
        assert texts(after)[-2:] == ["more?", "yes"]
        path.with_name(path.name + ".damaged").unlink(missing_ok=True)
