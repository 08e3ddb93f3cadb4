"""Files that go along with a prompt: which they are, what they hold, how they are laid out."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.attachments import MOST_BYTES, Attachment, read_attachments
from fwlocal.errors import FwlocalError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a few sources in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src" / "deep").mkdir(parents=True)
    for name in ("src/b.py", "src/a.py", "src/deep/c.py", "src/notes.txt"):
        (tmp_path / name).write_text(f"this is {name}\n")
    return tmp_path


def names(*patterns: str) -> list[str]:
    return [file.name for file in read_attachments(patterns)]


def test_two_stars_are_any_number_of_folders_and_matches_are_sorted() -> None:
    assert names("src/**/*.py") == ["src/a.py", "src/b.py", "src/deep/c.py"]


def test_the_order_is_that_of_the_patterns_and_each_file_comes_once() -> None:
    assert names("src/notes.txt", "./src/b.py", "src/*") == [
        "src/notes.txt",
        "src/b.py",
        "src/a.py",
    ]


def test_a_file_whose_name_looks_like_a_pattern(folder: Path) -> None:
    (folder / "[a].txt").write_text("brackets")

    assert names("[a].txt") == ["[a].txt"]


def test_the_users_own_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))

    assert len(names("~/src/*.txt")) == 1


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*.rs", r"\*\.rs: matches no file"),
        ("src/d*", r"matches only folders"),
        ("src", r"src: is a folder; name its files, as with 'src/\*\*/\*\.py'"),
        ("", "the name of a file is empty"),
        ("a\0b", "holds a NUL byte"),
    ],
)
def test_patterns_that_name_no_file(pattern: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_attachments([pattern])


def test_a_missing_file() -> None:
    with pytest.raises(FwlocalError, match=r"none\.txt: cannot be read: No such file"):
        read_attachments(["none.txt"])


def test_the_byte_order_mark_and_carriage_returns_are_dropped(folder: Path) -> None:
    (folder / "dos.txt").write_bytes("\ufeffé\r\nb\r\n".encode())

    assert read_attachments(["dos.txt"])[0].text == "é\nb\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a\0b", "NUL byte at 1"),
        (b"ab\xff", "byte 2 is not"),
        ("a".encode("utf-16"), "NUL byte at 3"),
    ],
)
def test_a_binary_file(folder: Path, data: bytes, says: str) -> None:
    (folder / "x.bin").write_bytes(data)

    with pytest.raises(FwlocalError, match=rf"x\.bin: is no text \({says}"):
        read_attachments(["x.bin"])


def test_a_huge_file_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "huge.log").open("wb") as file:
        file.write(b"a line of a log\n" * 512)
        file.truncate(2 << 30)  # with NUL bytes, which would be told if they were read

    with pytest.raises(FwlocalError, match=r"has 2\.1 GB, about 536\.9 million tokens"):
        read_attachments(["huge.log"])


def test_the_bound_is_for_all_files_together(folder: Path) -> None:
    (folder / "1.txt").write_text("a" * (MOST_BYTES - 1))
    (folder / "2.txt").write_text("ab")

    with pytest.raises(FwlocalError, match=r"2\.txt: has 2 B, about 0 tokens; .* 16 MiB together"):
        read_attachments(["1.txt", "2.txt"])


def test_a_large_binary_file_is_told_as_binary(folder: Path) -> None:
    (folder / "film.mkv").write_bytes(bytes(MOST_BYTES + 1))

    with pytest.raises(FwlocalError, match=r"film\.mkv: is no text"):
        read_attachments(["film.mkv"])


def test_a_folder_is_its_text_files_where_somebody_hears_what_is_left_out(folder: Path) -> None:
    (folder / "src" / "deep" / "c.pyc").write_bytes(b"\0")
    (folder / "src" / ".git").mkdir()
    (folder / "src" / ".git" / "config").write_text("hidden")
    (folder / "src" / ".env").write_text("a secret")
    told: list[str] = []

    files = read_attachments(["src/b.py", "src"], told.append)

    assert [file.name for file in files] == [
        "src/b.py",
        "src/a.py",
        "src/notes.txt",
        "src/deep/c.py",
    ]
    assert told == ["src: 4 text files; left out: 2 hidden, 1 no text"]


def test_nothing_is_told_of_a_folder_that_is_all_there(folder: Path) -> None:
    told: list[str] = []

    assert len(read_attachments(["src"], told.append)) == 4
    assert told == []


def test_a_folder_without_a_text_file(folder: Path) -> None:
    (folder / "src" / "deep" / "c.py").write_bytes(b"\0")

    with pytest.raises(UsageError, match=r"src/deep: has no text file in it \(1 no text\)"):
        read_attachments(["src/deep"], print)


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_a_link_to_a_folder_above_is_no_endless_way(folder: Path) -> None:
    (folder / "src" / "deep" / "up").symlink_to(folder / "src", target_is_directory=True)

    assert len(read_attachments(["src"], print)) == 4


def test_a_home_that_nobody_has() -> None:
    with pytest.raises(FwlocalError, match="~nobody-at-all/x: cannot be read"):
        read_attachments(["~nobody-at-all/x"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_a_pipe_that_the_shell_gave_a_name() -> None:
    read, write = os.pipe()
    os.write(write, b"from a pipe")
    os.close(write)
    try:
        assert read_attachments([f"/dev/fd/{read}"])[0].text == "from a pipe"
    finally:
        os.close(read)


def test_the_size_is_that_of_the_text() -> None:
    assert Attachment("a", "é\n").size_bytes == 3


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="devices are of Unix")
def test_a_device_is_no_text() -> None:
    with pytest.raises(FwlocalError, match="/dev/zero: is no text"):
        read_attachments(["/dev/zero"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_a_pipe_that_has_too_much(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    writer = threading.Thread(target=_write_too_much, args=(folder / "pipe",))
    writer.start()
    try:
        with pytest.raises(FwlocalError, match=r"pipe: has more than there is room for; files may"):
            read_attachments(["pipe"])
    finally:
        writer.join()


def _write_too_much(pipe: Path) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write_bytes(b"a" * (MOST_BYTES + 1 + (1 << 20)))


def test_a_block_is_a_heading_and_a_fence() -> None:
    assert Attachment("a.py", "x = 1").block == "# a.py\n\n```\nx = 1\n```"
    assert Attachment("empty", "").block == "# empty\n\n```\n```"


@given(st.text(alphabet="`a \n"))
def test_no_line_of_a_file_closes_its_fence(text: str) -> None:
    _, _, opening, *body, closing = Attachment("a", text).block.split("\n")

    assert opening == closing
    assert not any(line.strip().startswith(opening) for line in body)


@pytest.mark.skipif(os.name == "nt", reason="such names are of Unix")
def test_a_name_cannot_break_its_heading(folder: Path) -> None:
    (folder / "a\n\x1b# b").write_text("x")

    assert names("a*") == ["a␊␛# b"]
