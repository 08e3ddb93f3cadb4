"""Conversions over HTTP, from a Hub on loopback: cut, killed, deceived, and the same bytes at the
end."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.convert.checkpoints import write_checkpoint
from tests.hub_server import Fault, HubServer, client_environment
from tests.tiny_llama import Shape

ROOT = Path(__file__).parents[2]
SHAPE = Shape(512, 1024, 4, 8, 4, vocab_size=512)  # 20 MB of BF16
REPOS = {"safetensors": "owner/whale", "bin": "owner/dolphin"}


@dataclass(frozen=True)
class World:
    """A Hub, a user's folders, and what the conversion of each repository must be."""

    server: HubServer
    home: Path
    expected: dict[str, str]

    def start(self, source: str, out: Path, *more: str) -> subprocess.Popen[str]:
        """``fwlocal convert``, running."""
        arguments = ("convert", source, "-q", "Q4_K_M,Q8_0", "-o", str(out), *more)
        environment = {**client_environment(self.server, self.home), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "fwlocal", *arguments],
            cwd=self.home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def convert(self, source: str, out: Path, *more: str) -> tuple[int, str]:
        """The same, to its end: exit code and stderr."""
        process = self.start(source, out, *more)
        _, stderr = process.communicate(timeout=120)
        return process.returncode, stderr


def digest(out: Path) -> str:
    """Of the finished files, names included."""
    total = hashlib.sha256()
    for path in sorted(out.glob("*.gguf")):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both repositories on the Hub, and converted from Hugging Face's cache."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "user").mkdir()
    with HubServer() as server:
        world = World(server, folder / "user", {})
        for layout, repo in REPOS.items():
            path = folder / f"models--{repo.replace('/', '--')}" / "snapshots" / "new"
            write_checkpoint(path, SHAPE, dtype="BF16", layout=layout, shards=2)
            commit = server.add(repo, {file.name: file.read_bytes() for file in path.iterdir()})
            path.rename(path.with_name(commit))
            code, stderr = world.convert(str(path.parents[1]), folder / layout)
            assert code == 0, stderr
            world.expected[repo] = digest(folder / layout)
        yield world


@pytest.fixture
def server(world: World) -> HubServer:
    """The Hub, nothing counted and nothing planned."""
    world.server.cut([])
    world.server.reset_counts()
    return world.server


def weights_bytes(world: World) -> int:
    """Of one repository's files of weights."""
    return sum(p.stat().st_size for p in (world.home.parent).glob("models--*whale/*/*/*tensors"))


@pytest.mark.parametrize("repo", REPOS.values())
def test_the_same_bytes_as_from_the_cache(
    repo: str, world: World, server: HubServer, tmp_path: Path
) -> None:
    code, stderr = world.convert(repo, tmp_path)
    assert code == 0, stderr
    assert digest(tmp_path) == world.expected[repo]
    assert "MB fetched, nothing of it stored" in stderr
    assert server.sent_bytes <= 1.02 * weights_bytes(world) + 100_000  # the tokenizer's files
    assert max(path.stat().st_size for path in world.home.rglob("*")) < 100_000
    server.reset_counts()
    code, stderr = world.convert(repo, tmp_path)
    assert (code, stderr.count("already there")) == (0, 2)
    assert server.sent_bytes < 500_000


def test_a_connection_that_is_cut_thirty_times(
    world: World, server: HubServer, tmp_path: Path
) -> None:
    total = weights_bytes(world)
    server.cut(random.Random(0).sample(range(total), 30))
    code, stderr = world.convert("owner/whale", tmp_path)
    assert code == 0, stderr
    assert digest(tmp_path) == world.expected["owner/whale"]


@pytest.mark.parametrize("repo", REPOS.values())
def test_a_run_that_is_killed_again_and_again(
    repo: str, world: World, server: HubServer, tmp_path: Path
) -> None:
    journal, told = tmp_path / f".{repo.split('/')[1]}-Q4_K_M.gguf.journal", ""
    for count in (1, 12, 30):
        process = world.start(repo, tmp_path)
        wait_for_lines(process, journal, count)
        process.kill()
        told += process.communicate()[1]
    code, stderr = world.convert(repo, tmp_path)
    assert code == 0, stderr
    assert digest(tmp_path) == world.expected[repo]
    assert {path.suffix for path in tmp_path.iterdir()} == {".gguf"}
    has_entries = repo == REPOS["bin"]  # each of which has a checksum
    assert ("SHA-256 could not be checked" in told + stderr) is not has_entries


def wait_for_lines(process: subprocess.Popen[str], journal: Path, count: int) -> None:
    """Until the journal has so many tensors, or all is done."""
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("repo", REPOS.values())
def test_a_wrong_byte_is_found_and_nothing_is_kept(
    repo: str, world: World, server: HubServer, tmp_path: Path
) -> None:
    server.plan(Fault(path="00002-of-00002", flip_byte=5_000_000))
    code, stderr = world.convert(repo, tmp_path)
    assert code == 1
    assert [line.split(";")[-1] for line in stderr.splitlines()] == [
        "fwlocal: reading 0.02 GB from the Hub, none of it is stored",
        " run the command again",
    ]
    assert not list(tmp_path.iterdir())
    assert world.convert(repo, tmp_path)[0] == 0
    assert digest(tmp_path) == world.expected[repo]


def test_a_file_that_changes_is_no_chimera(world: World, server: HubServer, tmp_path: Path) -> None:
    server.plan(Fault(path="00002-of-00002", skip=2, etag="another", where="cdn"))
    code, stderr = world.convert("owner/whale", tmp_path)
    assert code == 4, stderr
    assert "has changed on the server" in stderr
    assert not list(tmp_path.glob("*.gguf"))


def test_a_dry_run_fetches_headers_alone(world: World, server: HubServer, tmp_path: Path) -> None:
    process = world.start("owner/dolphin@main", tmp_path / "out", "--dry-run")
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    assert "MB to fetch, nothing of it stored, " in stdout
    assert server.sent_bytes < 500_000
    assert not (tmp_path / "out").exists()


def test_a_repository_that_is_not_there(world: World, server: HubServer, tmp_path: Path) -> None:
    code, stderr = world.convert("owner/whales", tmp_path)
    assert code == 1
    assert "did you mean owner/whale?" in stderr
    assert len(stderr.splitlines()) == 1
