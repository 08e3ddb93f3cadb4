"""The verbs of the store as a user calls them: list, show, where, rm, verify, import."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fwlocal import listing
from fwlocal.gguf import read_header
from fwlocal.library import Library
from fwlocal.locks import held
from fwlocal.store.importing import folder_name
from fwlocal.store.manifest import read_manifest
from tests import tiny_llama
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("home")


def data(fwlocal: Run, *arguments: str | Path) -> Any:
    """What a verb prints with --json."""
    return json.loads(fwlocal(*arguments, "--json").stdout)


def damage(path: Path, at: int = -100) -> None:
    """Change one bit, whatever other names the file has."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.unlink()
    path.write_bytes(content)


def split(home: Path, name: str, fwlocal: Run, tmp_path: Path) -> list[Path]:
    """A model of several files in the store."""
    shape = tiny_llama.Shape(256, 256, 2, 4, 2)
    whole = tiny_llama.write_gguf(tmp_path / "wide.gguf", shape)
    options = ("-q", "F32", "--split-size", "1M", "--name", name, "-o", home / name)
    assert fwlocal("convert", whole, *options).returncode == 0
    return sorted((home / name).glob("*.gguf"))


# import


def test_an_imported_file_is_a_model_like_any_other(
    tiny_gguf: Path, home: Path, fwlocal: Run, whale: str
) -> None:
    path = home / "whale" / "whale-F32.gguf"
    manifest = read_manifest(path.with_suffix(".json"))

    assert whale == "whale:F32"
    assert path.samefile(tiny_gguf)  # a second name, no second copy
    assert manifest is not None
    assert manifest.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest.road, manifest.source) == ("import", str(tiny_gguf))
    assert fwlocal("run", "-m", "Whale:f32", "--max-tokens", "2", "hi").returncode == 0
    assert {p.name for p in path.parent.iterdir()} == {"whale-F32.gguf", "whale-F32.json"}


def test_a_copy_is_a_copy(tiny_gguf: Path, home: Path, fwlocal: Run) -> None:
    done = data(fwlocal, "import", tiny_gguf, "--copy", "--prompt-format", "chatml")

    path = Path(done["path"])
    assert (done["model"], done["level"]) == ("tiny", "GGUF")  # as general.name has it
    assert not path.samefile(tiny_gguf)
    assert path.read_bytes() == tiny_gguf.read_bytes()
    assert "<|im_start|>user" in fwlocal("prompt", "-m", "tiny", "hi").stdout


def test_a_split_model_comes_whole(home: Path, tmp_path: Path, fwlocal: Run) -> None:
    parts = split(tmp_path, "wide", fwlocal, tmp_path)

    done = fwlocal("import", parts[2], "--name", "broad")

    assert done.stdout == "broad:F32\n"
    there = sorted((home / "broad").glob("*.gguf"))
    assert [p.name for p in there] == [p.name.replace("wide", "broad") for p in parts]
    assert fwlocal("run", "-m", "broad", "--raw", "--max-tokens", "1", "hi").returncode == 0
    assert fwlocal("verify", "broad").returncode == 0


def test_another_entry_is_not_replaced_unasked(
    home: Path, tmp_path: Path, fwlocal: Run, whale: str
) -> None:
    other = tiny_llama.write_gguf(tmp_path / "other.gguf", seed=9)
    path = home / "whale" / "whale-F32.gguf"
    before = path.read_bytes()

    refused = fwlocal("import", other, "--name", whale)
    assert refused.returncode == 2
    assert "whale:F32 is there already; --overwrite replaces it" in refused.stderr
    assert path.read_bytes() == before

    assert fwlocal("import", other, "--name", whale, "--overwrite").returncode == 0
    assert path.read_bytes() == other.read_bytes()
    assert fwlocal("verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("none.gguf",), 1, "none.gguf: cannot be read"),
        (("TEXT",), 1, "no GGUF file"),
        (("TINY", "--name", "../up"), 2, "cannot be a folder's name; try 'up'"),
        (("TINY", "--name", ".hidden"), 2, "try 'hidden'"),
        (("TINY", "--name", "a:b/c"), 2, "try 'b-c'"),
        (("TINY", "--name", "a:b\nc"), 2, "try 'b-c'"),
        (("TINY", "--name", "a:b-00001-of-00002"), 2, "try 'GGUF'"),
        (("TINY", "--prompt-format", "alpaca"), 2, "'alpaca'; there are freewilly2"),
    ],
)
def test_what_cannot_be_imported_is_told_and_leaves_nothing(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    home: Path,
    tmp_path: Path,
    tiny_gguf: Path,
    fwlocal: Run,
) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("no model, but long enough to be one")
    names = {"TEXT": str(text), "TINY": str(tiny_gguf)}

    done = fwlocal("import", *(names.get(argument, argument) for argument in arguments))

    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not home.exists()


def test_a_store_that_cannot_be_written(tiny_gguf: Path, tmp_path: Path, fwlocal: Run) -> None:
    (tmp_path / "file").touch()

    done = fwlocal("import", tiny_gguf, env={"FWLOCAL_HOME": str(tmp_path / "file")})

    assert done.returncode == 1
    assert "is no folder; set FWLOCAL_HOME to another folder" in done.stderr


def test_a_level_may_be_called_anything(home: Path, tiny_gguf: Path, fwlocal: Run) -> None:
    done = fwlocal("import", tiny_gguf, "--name", "whale:my own, v2.1")

    assert done.stdout == "whale:my own, v2.1\n"
    assert done.stderr == "fwlocal: talk to it with `fwlocal chat -m 'whale:my own, v2.1'`\n"
    assert data(fwlocal, "list")[0]["level"] == "my own, v2.1"
    assert fwlocal("rm", "whale:my own, v2.1", "--yes").returncode == 0
    assert not (home / "whale").exists()


def test_a_known_models_name_is_the_users_word(tiny_gguf: Path, fwlocal: Run) -> None:
    done = fwlocal("import", tiny_gguf, "--name", "freewilly2:mine")

    assert (done.returncode, done.stdout) == (0, "freewilly2:mine\n")
    assert "freewilly2 is a known model, so the file is treated as FreeWilly2" in done.stderr


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Llama 3.2  1B", "Llama-3.2-1B"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\x", "C-x"),
        (".hidden.", "hidden"),
        ("a\x1b[31mb\n", "a-[31mb"),
        ("é" * 90, "é" * 50),
        ("...", ""),
        ("", ""),
    ],
)
def test_names_made_sane(text: str, name: str) -> None:
    assert folder_name(text) == name


# list


def test_list_shows_what_is_there(tiny_gguf: Path, fwlocal: Run, whale: str) -> None:
    (entry,) = data(fwlocal, "list")

    assert (entry["model"], entry["level"], entry["state"]) == ("whale", "F32", "whole")
    assert entry["size_bytes"] == tiny_gguf.stat().st_size
    assert entry["bits_per_weight"] == 32
    assert entry["source"] == str(tiny_gguf)
    assert (entry["last_used"], entry["revision"], entry["licence"]) == (None, None, None)
    fwlocal("run", "-m", whale, "--max-tokens", "1", "hi")
    assert data(fwlocal, "list")[0]["last_used"] >= entry["added"]
    heading, line, *_ = fwlocal("list").stdout.splitlines()
    assert heading.split() == ["MODEL", "LEVEL", "SIZE", "BITS", "ADDED", "USED", "SOURCE"]
    assert line.split()[:5] == ["whale", "F32", "444", "kB", "32.00"]


def on_terminal(width: int) -> list[str]:
    """What `fwlocal list` shows on one that wide."""
    library, screen = Library.default(), io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=width)
    assert listing.show(library.store, library.registry, console)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 40])
def test_list_is_readable_on_a_narrow_terminal(
    width: int, tiny_gguf: Path, fwlocal: Run, whale: str
) -> None:
    fwlocal("import", tiny_gguf, "--name", "a-model-of-a-long-name:Q4_K_M")

    lines = on_terminal(width)

    assert len(lines) == 4  # nothing is broken over two
    assert all(len(line) <= width for line in lines)
    assert "a-model-of-a-long-name  Q4_K_M" in lines[1]
    assert lines[-1] == "2 levels: 888 kB"


def test_in_a_pipe_list_is_a_whole_line_for_each(
    tiny_gguf: Path, tmp_path: Path, fwlocal: Run
) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60) / "m m.gguf"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(tiny_gguf.read_bytes())
    fwlocal("import", deep, "--name", "whale")

    heading, line = fwlocal("list", env={"COLUMNS": "40"}).stdout.splitlines()

    assert heading.endswith("  SOURCE")
    assert line.endswith(f"  {deep}")


def test_list_tells_what_is_not_whole(home: Path, tmp_path: Path, fwlocal: Run) -> None:
    split(home, "wide", fwlocal, tmp_path)[1].unlink()
    (home / "half").mkdir()
    (home / "half" / ".half-Q8_0.gguf.partial").write_bytes(bytes(3_000_000))

    shown = fwlocal("list").stdout

    assert "half:Q8_0: 3 MB so far, unfinished; remove it with `fwlocal rm half:Q8_0`" in shown
    assert "incomplete: wide-F32-00002-of-0000" in shown
    states = {entry["model"]: entry["state"] for entry in data(fwlocal, "list")}
    assert states == {"half": "unfinished", "wide": "incomplete"}
    assert on_terminal(80)[-1].startswith("0 levels, 2 not whole: ")
    with held(home / "half" / "half-Q8_0.gguf", "fetching it"):
        assert f"so far, process {os.getpid()} on" in fwlocal("list").stdout


def test_what_is_half_here_is_told_with_the_command_that_goes_on(home: Path, fwlocal: Run) -> None:
    folder = home / "Whale"
    folder.mkdir(parents=True)
    (folder / ".Whale-Q4_0.gguf.partial").write_bytes(bytes(3_000_000))
    (folder / ".Whale-Q4_0.gguf.download").write_text(
        '{"identity": ["owner/Whale-GGUF", "w.Q4_0.gguf", "9", "etag"], "commit": "abc"}'
    )
    on = "go on with `fwlocal pull owner/Whale-GGUF:Q4_0`"

    assert on in fwlocal("list").stdout
    for arguments in (("run", "-m", "Whale", "hi"), ("show", "whale:q4_0"), ("where", "Whale"),
                      ("where", "owner/Whale-GGUF")):  # fmt: skip
        done = fwlocal(*arguments)
        assert done.returncode == 1
        assert done.stderr == f"fwlocal: Whale:Q4_0: 3 MB so far, unfinished; {on}\n"
    (entry,) = data(fwlocal, "list")
    assert (entry["source"], entry["revision"]) == ("owner/Whale-GGUF", "abc")
    assert entry["command"] == "fwlocal pull owner/Whale-GGUF:Q4_0"


def test_an_empty_store(fwlocal: Run) -> None:
    done = fwlocal("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no model is on this disk yet" in done.stderr
    assert data(fwlocal, "list") == data(fwlocal, "verify") == []


def test_list_shows_a_damaged_file_and_dates_of_a_wrong_clock(
    home: Path, fwlocal: Run, whale: str
) -> None:
    path = home / "whale" / "whale-F32.gguf"
    manifest = path.with_suffix(".json")
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**told, "added": "9999-01-01T00:00:00Z", "last_used": "?"}))
    damage(path, 0)

    done = fwlocal("list", env={"COLUMNS": "200"})

    assert done.returncode == 0
    assert "damaged" in done.stdout
    assert "9999-01-01  -" in done.stdout


# where and show


def test_where_prints_the_path_alone(home: Path, fwlocal: Run, whale: str) -> None:
    path = home / "whale" / "whale-F32.gguf"
    assert fwlocal("where", whale).stdout == f"{path}\n"
    assert data(fwlocal, "where", "whale") == {
        "model": "whale",
        "level": "F32",
        "path": str(path),
        "files": [str(path)],
        "size_bytes": path.stat().st_size,
        "source": read_source(path),
        "revision": None,
        "licence": None,
    }


def read_source(path: Path) -> str:
    """What the manifest beside a stored file says."""
    manifest = read_manifest(path.with_suffix(".json"))
    return manifest.source if manifest else ""


def test_where_of_a_file_elsewhere(tmp_path: Path, tiny_gguf: Path, fwlocal: Run) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(tiny_gguf.read_bytes())

    told = data(fwlocal, "where", path)

    assert (told["model"], told["level"], told["path"]) == ("own", None, str(path))
    assert (told["size_bytes"], told["source"]) == (path.stat().st_size, None)


def test_every_verb_calls_a_thing_the_same(fwlocal: Run, whale: str) -> None:
    (listed,) = data(fwlocal, "list")
    (verified,) = data(fwlocal, "verify")
    shown, place = data(fwlocal, "show", whale), data(fwlocal, "where", whale)
    (removed,) = data(fwlocal, "rm", whale, "--yes")["removed"]

    for told in (verified, shown, place, removed):
        for name in ("model", "level", "path", "files", "size_bytes"):
            assert told[name] == listed[name]
    for told in (shown, place):
        for name in ("source", "revision", "licence"):
            assert told[name] == listed[name]


@pytest.mark.parametrize("verb", ["where", "show", "verify"])
def test_what_is_not_there_can_be_pulled(verb: str, fwlocal: Run) -> None:
    for model in ("freewilly2:Q2_K", "freewilly2:Q8_0", "smollm2-135m", "owner/repo:Q4_K_M"):
        done = fwlocal(verb, model)
        assert done.returncode == 1
        assert f"get it with `fwlocal pull {model}`" in done.stderr


def test_show_tells_where_it_came_from(tiny_gguf: Path, fwlocal: Run, whale: str) -> None:
    shown = fwlocal("show", whale).stdout.splitlines()
    facts = data(fwlocal, "show", whale)

    assert f"source         imported from {tiny_gguf}" in shown
    assert "prompt format  gguf" in shown
    assert "licence        not known" in shown
    assert (facts["road"], facts["prompt_format"]) == ("import", "gguf")
    assert facts["sha256"] == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()


def test_show_begins_with_what_matters(fwlocal: Run, whale: str) -> None:
    shown = fwlocal("show", whale).stdout

    labels = [line[:13].rstrip() for line in shown.splitlines()[:7]]
    assert labels == ["model", "path", "size", "architecture", "weights", "context", "licence"]
    assert "general.architecture" not in shown
    assert "general.architecture" in fwlocal("show", whale, "--metadata").stdout
    assert "general.architecture" in data(fwlocal, "show", whale)["metadata"]


def test_show_of_a_split_model_counts_all_its_tensors(
    home: Path, tmp_path: Path, fwlocal: Run
) -> None:
    parts = split(home, "wide", fwlocal, tmp_path)

    facts = data(fwlocal, "show", "wide")

    assert len(facts["tensors"]) == 21
    assert facts["size_bytes"] == sum(part.stat().st_size for part in parts)
    assert facts["source"].removesuffix(".gguf").endswith("wide")


# rm


def test_rm_removes_a_level_and_all_that_belongs_to_it(
    home: Path, tiny_gguf: Path, fwlocal: Run, whale: str
) -> None:
    fwlocal("import", tiny_gguf, "--name", "whale:Q8_0", "--copy")
    folder = home / "whale"
    for kind in ("partial", "journal", "download", "holder"):
        (folder / f".whale-Q8_0.gguf.{kind}").touch()
    (folder / "whale-Q8_0.gguf.quarantine").touch()

    done = fwlocal("rm", "whale:q8_0", "--yes")

    assert done.returncode == 0
    assert "whale:Q8_0 removed, 444 kB freed" in done.stderr
    assert {path.name for path in folder.iterdir()} == {"whale-F32.gguf", "whale-F32.json"}
    assert "nothing freed" in fwlocal("rm", whale, "-y").stderr  # the original is still there
    assert tiny_gguf.exists()
    assert not folder.exists()


def test_rm_of_a_model_takes_every_level_and_unfinished_ones(
    home: Path, tmp_path: Path, fwlocal: Run
) -> None:
    split(home, "wide", fwlocal, tmp_path)
    (home / "wide" / ".wide-Q8_0.gguf.partial").touch()

    removed = data(fwlocal, "rm", "wide", "--yes")

    assert [level["level"] for level in removed["removed"]] == ["F32", "Q8_0"]
    assert removed["freed_bytes"] > 1_000_000
    assert not (home / "wide").exists()


def test_rm_does_not_remove_unasked(home: Path, fwlocal: Run, whale: str) -> None:
    done = fwlocal("rm", whale, stdin="y\n")  # no terminal
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert (home / "whale" / "whale-F32.gguf").exists()


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_rm_asks(answer: str, code: int, home: Path, whale: str) -> None:
    import pexpect

    child = pexpect.spawn(sys.executable, ["-m", "fwlocal", "rm", whale], encoding="utf-8")
    child.expect(r"whale:F32, 444 kB in .*whale")
    child.expect(r"Remove\? \[y/N\]")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code
    assert (home / "whale" / "whale-F32.gguf").exists() == (answer == "n")


@pytest.mark.parametrize(
    ("model", "code", "says"),
    [
        ("TINY", 2, "is not in the models folder"),  # though a stored file is the same one
        ("/etc/hosts.gguf", 2, "is not in the models folder"),
        ("../whale", 2, "is not in the models folder"),
        ("freewilly2", 1, "freewilly2 is not on this disk"),
        ("whale:Q2_K", 1, "whale:Q2_K is not on this disk; `fwlocal list`"),
        ("..", 2, "is not in the models folder"),
        ("", 2, "names no model"),
        (":Q4_0", 2, "names no model"),
    ],
)
def test_rm_removes_nothing_else(
    model: str, code: int, says: str, home: Path, tiny_gguf: Path, fwlocal: Run, whale: str
) -> None:
    done = fwlocal("rm", "--yes", str(tiny_gguf) if model == "TINY" else model)

    assert done.returncode == code
    assert says in done.stderr
    assert tiny_gguf.exists()
    assert (home / "whale" / "whale-F32.gguf").exists()


def test_rm_takes_parts_that_lie_beside_the_file_of_the_same_level(
    home: Path, tmp_path: Path, fwlocal: Run, whale: str
) -> None:
    folder = home / "whale"
    for part in split(tmp_path, "wide", fwlocal, tmp_path):
        (folder / part.name.replace("wide", "whale")).write_bytes(part.read_bytes())
    (folder / "whale-F32-mine-00001-of-00002.gguf").touch()

    assert fwlocal("rm", whale, "--yes").returncode == 0

    assert [path.name for path in folder.iterdir()] == ["whale-F32-mine-00001-of-00002.gguf"]


def test_a_manifest_that_was_left_behind(
    home: Path, tiny_gguf: Path, fwlocal: Run, whale: str
) -> None:
    (home / "whale" / "whale-F32.gguf").unlink()
    assert data(fwlocal, "list") == []

    assert fwlocal("rm", "whale", "--yes").returncode == 0

    assert not (home / "whale").exists()
    assert fwlocal("rm", "whale", "--yes").returncode == 1


def test_rm_by_path(home: Path, fwlocal: Run, whale: str) -> None:
    assert fwlocal("rm", "--yes", home / "whale" / "whale-F32.gguf").returncode == 0
    assert not (home / "whale").exists()


def test_rm_leaves_alone_what_another_process_is_at(home: Path, fwlocal: Run, whale: str) -> None:
    path = home / "whale" / "whale-F32.gguf"
    with held(path, "fetching it"):
        done = fwlocal("rm", whale, "--yes")
    assert done.returncode == 1
    assert f"process {os.getpid()} on" in done.stderr
    assert path.exists()


def test_processes_that_import_and_remove_at_once_leave_nothing_half(
    tiny_gguf: Path, home: Path
) -> None:
    begin = [sys.executable, "-m", "fwlocal"]
    add = [*begin, "import", str(tiny_gguf), "--name", "whale:F32", "--overwrite", "--copy"]
    commands = [add, [*begin, "rm", "whale", "--yes"], add, [*begin, "list", "--json"]]
    running = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for c in commands
    ]
    for process in running:
        _, errors = process.communicate()
        assert "Traceback" not in errors
        assert "a bug" not in errors
    assert {path.name for path in home.glob("whale/*")} in (
        set(),
        {"whale-F32.gguf", "whale-F32.json"},
    )


# verify


def test_verify_hashes_the_whole_store(home: Path, fwlocal: Run, tmp_path: Path) -> None:
    one, two = (tiny_llama.write_gguf(tmp_path / f"{seed}.gguf", seed=seed) for seed in (1, 2))
    fwlocal("import", one, "--name", "one:F32")
    fwlocal("import", two, "--name", "two:F32")
    sound = fwlocal("verify")
    assert sound.returncode == 0
    assert sound.stdout.count("sound: its SHA-256 is as recorded") == 2

    damage(home / "two" / "two-F32.gguf")
    done = fwlocal("verify")

    assert done.returncode == 3
    assert done.stdout.count("sound") == 1
    path = home / "two" / "two-F32.gguf"
    assert f"{path}: its SHA-256 is" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"fwlocal: {path}: damaged; get it back with "
        f"`fwlocal import {two} --name two:F32 --overwrite`"
    )
    reports = {report["model"]: report for report in data(fwlocal, "verify")}
    assert reports["one"]["damaged"] == []
    assert reports["one"]["sha256"] == hashlib.sha256(one.read_bytes()).hexdigest()
    assert reports["two"]["damaged"][0]["tensor"] is None


def test_verify_of_a_cut_file_and_a_missing_part(
    home: Path, tmp_path: Path, fwlocal: Run, whale: str
) -> None:
    split(home, "wide", fwlocal, tmp_path)[1].unlink()
    path = home / "whale" / "whale-F32.gguf"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1000])

    done = fwlocal("verify")

    assert done.returncode == 3
    assert f"bytes long, and was {len(content)}" in done.stderr
    assert "truncated" in done.stderr
    assert ": is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_knows_the_embedded_models_hash(home: Path, fwlocal: Run, tiny_gguf: Path) -> None:
    """A file of the right size in its place, with other bytes."""
    size = 98_362_432
    path = home / "smollm2-135m" / "smollm2-135m-Q4_1.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(tiny_gguf.read_bytes())
    with path.open("r+b") as file:
        file.truncate(size)

    done = fwlocal("verify", "smollm2-135m")

    assert done.returncode == 3
    assert "and was b179c9523d0e…" in done.stderr
    assert "`fwlocal pull smollm2-135m:Q4_1 --overwrite`" in done.stderr


def test_verify_tells_of_a_file_under_the_name_that_was_asked(
    tiny_gguf: Path, fwlocal: Run, whale: str
) -> None:
    assert fwlocal("verify", tiny_gguf).stdout.startswith(f"{tiny_gguf}: sound: its SHA-256 is as")
    (report,) = data(fwlocal, "verify", tiny_gguf)
    assert (report["model"], report["path"]) == ("whale", str(tiny_gguf))


def test_verify_of_what_never_was_a_gguf(tmp_path: Path, fwlocal: Run) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Call me Ishmael.")
    for path in (text, tmp_path):
        done = fwlocal("verify", path)
        assert done.returncode == 1
        assert one_line(done.stderr)
        assert "convert" not in done.stderr
    assert f"{text}: is no GGUF" in fwlocal("verify", text).stderr


def one_line(text: str) -> bool:
    return text.startswith("fwlocal: ") and text.count("\n") == 1


@pytest.mark.parametrize("verb", ["list", "verify", "models"])
def test_a_models_folder_that_is_a_file(verb: str, tmp_path: Path, fwlocal: Run) -> None:
    (tmp_path / "file").touch()

    done = fwlocal(verb, env={"FWLOCAL_HOME": str(tmp_path / "file")})

    assert done.returncode == 1
    assert done.stderr == (
        f"fwlocal: {tmp_path / 'file'}: is no folder; set FWLOCAL_HOME to another folder\n"
    )


def test_a_read_only_store_can_be_read(home: Path, fwlocal: Run, whale: str) -> None:
    folder = home / "whale"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(0o500)
    try:
        for verb in ("list", "verify"):
            assert fwlocal(verb).returncode == 0
        assert fwlocal("where", whale).returncode == 0
        assert fwlocal("run", "-m", whale, "--max-tokens", "1", "hi").returncode == 0
        if os.geteuid():  # root writes everywhere
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
            assert "make it writable" in fwlocal("rm", whale, "--yes").stderr
    finally:
        folder.chmod(0o700)


def test_a_header_of_an_imported_file_is_what_it_was(
    home: Path, tiny_gguf: Path, whale: str
) -> None:
    """Nothing is written into a file."""
    stored = read_header(home / "whale" / "whale-F32.gguf")
    assert stored.metadata == read_header(tiny_gguf).metadata
