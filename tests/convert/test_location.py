"""What a SOURCE means: here, in the cache of Hugging Face, on its Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from convert.sources.checkpoint import open_checkpoint
from convert.sources.location import Location, locate
from fwlocal.errors import FwlocalError, ModelNotFound, NetworkError, UsageError
from tests.convert.checkpoints import write_checkpoint, write_weights
from tests.convert.fake_hub import COMMIT, FakeRepository
from tests.convert.refused import refused
from tests.convert.tokenizers_made_here import write_json

ROOT = Path(__file__).parents[2]
WEIGHTS = {name: np.full((2, 4), number, np.float32) for number, name in enumerate("abcd")}


def test_locate_folders_and_files(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    gguf, notes = tmp_path / "m" / "Tiny.GGUF", tmp_path / "m" / "notes.txt"
    gguf.touch()
    notes.touch()
    assert locate(str(tmp_path / "m")) == Location(tmp_path / "m")
    assert locate(str(tmp_path / "m")).name == "m"
    assert locate(str(gguf)) == Location(tmp_path / "m", gguf)
    assert (locate(str(gguf)).is_gguf, locate(str(gguf)).name) == (True, "Tiny")
    refused(lambda: locate(str(notes)), notes, ".safetensors", ".gguf", error=UsageError)
    for source in (str(tmp_path / "x"), "x", "./x/y", "a" * 5000, "~nobody-of-that-name/m"):
        refused(lambda source=source: locate(source), source, "name", error=UsageError)  # type: ignore[misc]


def test_what_hf_download_notes_of_a_folder(tmp_path: Path) -> None:
    note = tmp_path / ".cache" / "huggingface" / "download" / "config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{COMMIT}\n0a1b2c\n1700000000.0\n", "utf-8")
    assert locate(str(tmp_path)) == Location(tmp_path, None, None, COMMIT)
    note.write_bytes(b"\xff not a commit")
    assert locate(str(tmp_path)) == Location(tmp_path)


def test_a_repository_in_hugging_faces_cache(tmp_path: Path) -> None:
    repo = tmp_path / "models--some-one--a-model"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT, "utf-8")
    write_weights(snapshot, WEIGHTS, shards=2)
    write_json(snapshot / "config.json", {})
    partly = tmp_path / "models--some-one--other" / "snapshots" / COMMIT
    partly.mkdir(parents=True)
    (partly.parents[1] / "refs").mkdir()
    (partly.parents[1] / "refs" / "main").write_text(COMMIT, "utf-8")
    write_weights(partly, WEIGHTS, shards=2)[1].unlink()
    code = "from convert.sources.checkpoint import *; from fwlocal.errors import *; import sys\n"
    code += "for source in sys.argv[1:]:\n try: print(locate(source))\n"
    code += " except FwlocalError as error: print(error)"
    pinned = f"some-one/a-model@{COMMIT}"
    done = subprocess.run(
        [sys.executable, "-c", code, "some-one/a-model", pinned, "some-one/other", "a/..", "-/-"],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    found, also, other, *nonsense = done.stdout.splitlines()
    assert found == also == str(Location(snapshot, None, "some-one/a-model", COMMIT))
    assert other.startswith("some-one/other: not whole on this disk, nor to be had from the Hub: ")
    assert "HF_HUB_OFFLINE" in other
    assert other.endswith("unset it")
    for source, line in zip(("a/..", "-/-"), nonsense, strict=True):
        assert line.startswith(f"{source}: no name of a repository")
    for folder in (snapshot, repo):  # the same, named as a folder
        assert locate(str(folder)) == Location(snapshot, None, "some-one/a-model", COMMIT)
    assert locate(str(repo)).name == "a-model"
    with closing(open_checkpoint(locate(str(repo)))) as found_there:
        assert found_there.tensors.keys() == WEIGHTS.keys()


def test_a_repository_in_the_cache_without_a_main_branch(tmp_path: Path) -> None:
    repo = tmp_path / "models--some-one--a-model"
    make(repo / "snapshots")
    refused(lambda: locate(str(repo)), "0 snapshots", error=UsageError)
    only = make(repo / "snapshots" / COMMIT)
    assert locate(str(repo)).folder == only
    make(repo / "snapshots" / COMMIT[::-1])
    refused(lambda: locate(str(repo)), repo, "2 snapshots", "name one", error=UsageError)


def make(folder: Path) -> Path:
    """An empty folder."""
    folder.mkdir(parents=True)
    return folder


def test_a_loop_of_links_is_no_source(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, loop / "below"):
        refused(lambda path=path: locate(str(path)), path, error=UsageError)  # type: ignore[misc]
    assert Location(loop).name == "loop"  # a folder that has become one since


def test_a_revision_of_what_is_on_this_disk(tmp_path: Path) -> None:
    refused(lambda: locate(str(tmp_path), "main"), tmp_path, "no revisions", error=UsageError)


def test_a_repository_is_asked_for_what_is_not_here(tmp_path: Path) -> None:
    folder, asked = write_checkpoint(tmp_path / "m", layout="bin", shards=2), []

    def ask(repo: str, revision: str | None) -> FakeRepository:
        asked.append((repo, revision))
        return FakeRepository(folder, tmp_path / "here", repo)

    for source, revision in (("owner/whale", None), ("owner/whale@v1/x", None), ("a/b", "v2")):
        location = locate(source, revision, ask)
        assert location.folder == tmp_path / "here"
        assert (location.repo, location.revision) == (source.split("@")[0], COMMIT)
        assert location.name == source.split("@")[0].split("/")[1]
    assert asked == [("owner/whale", None), ("owner/whale", "v1/x"), ("a/b", "v2")]
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        *("config.json", "pytorch_model.bin.index.json"),
        *("tokenizer.model", "tokenizer_config.json"),
    }


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (NetworkError("a/b: no answer"), ("a/b: not whole on this disk", "Hub: no answer")),
        (ModelNotFound("a/b: no such repository"), ("a/b: no such folder", "no such repository")),
    ],
)
def test_a_hub_that_does_not_have_it(error: FwlocalError, parts: tuple[str, ...]) -> None:
    def ask(repo: str, revision: str | None) -> FakeRepository:
        raise error

    refused(lambda: locate("a/b", None, ask), *parts, error=type(error))
