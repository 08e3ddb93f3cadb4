"""A file of the Hub becomes a file on this disk, or nothing of that name is there."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fwlocal.errors import BadModelFile, NetworkError
from fwlocal.files import partial_path
from fwlocal.hub.download import bring, link_cached, resumable_bytes
from fwlocal.hub.remote_file import RemoteFile
from fwlocal.hub.repository import snapshot
from tests.hub.conftest import CONTENT, NAME, REPO
from tests.hub_server import Fault, HubServer
from tests.sound_gguf import sound_gguf

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_checked_and_nothing_else(file: RemoteFile, target: Path) -> None:
    seen: list[int] = []
    assert bring(file, target, lambda done, fetching: seen.append(done)) == SHA256
    assert partial_path(target).read_bytes() == CONTENT
    assert names(target.parent) == [".m.gguf.download", ".m.gguf.partial"]
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)


def test_cuts_change_nothing(hub: HubServer, file: RemoteFile, target: Path) -> None:
    chance = random.Random(3)
    hub.cut([chance.randrange(len(CONTENT)) for _ in range(5)])
    assert bring(file, target) == SHA256


def test_a_failed_download_goes_on(hub: HubServer, target: Path) -> None:
    content = sound_gguf(30_000_000, 6)
    hub.add("owner/larger", {NAME: content})
    file = snapshot("owner/larger", endpoint=hub.endpoint).open(NAME)
    hub.plan(Fault(path=NAME, where="cdn", skip=6, status=416))  # which no other try mends
    with pytest.raises(NetworkError):
        bring(file, target)
    there = resumable_bytes(file, target)
    assert there >= 3 * (4 << 20)
    hub.reset_counts()
    bring(file, target)
    assert partial_path(target).read_bytes() == content
    assert hub.sent_bytes == len(content) - there


def test_what_is_there_is_checked_too(hub: HubServer, file: RemoteFile, target: Path) -> None:
    hub.plan(Fault(path=NAME, where="cdn", flip_byte=5))
    with pytest.raises(NetworkError, match="wrong bytes"):
        bring(file, target)
    assert names(target.parent) == ["m.gguf.quarantine"]
    assert len((target.parent / "m.gguf.quarantine").read_bytes()) == len(CONTENT)
    assert bring(file, target) == SHA256  # and from the start


def test_what_is_published_damaged_is_not_taken_for_a_model(hub: HubServer, target: Path) -> None:
    hub.add("owner/cut", {NAME: CONTENT[:1_000_000]})
    with pytest.raises(BadModelFile, match=r"is damaged as it is published: truncated"):
        bring(snapshot("owner/cut", endpoint=hub.endpoint).open(NAME), target)
    assert names(target.parent) == ["m.gguf.quarantine"]


def test_a_conversions_beginning_is_not_gone_on_with(file: RemoteFile, target: Path) -> None:
    (target.parent / ".m.gguf.partial").write_bytes(b"of a conversion")
    (target.parent / ".m.gguf.journal").write_text("{}")
    assert bring(file, target) == SHA256
    assert names(target.parent) == [".m.gguf.download", ".m.gguf.partial"]


def test_another_files_beginning_is_not_gone_on_with(
    hub: HubServer, file: RemoteFile, target: Path
) -> None:
    (target.parent / ".m.gguf.partial").write_bytes(b"of another file")
    assert resumable_bytes(file, target) == 0
    assert bring(file, target) == SHA256


def test_a_new_commit_of_the_same_content_goes_on(
    hub: HubServer, file: RemoteFile, target: Path
) -> None:
    (target.parent / ".m.gguf.partial").write_bytes(CONTENT[:1_000_000])
    note = {"identity": [REPO, NAME, str(len(CONTENT)), SHA256]}
    (target.parent / ".m.gguf.download").write_text(json.dumps(note))
    hub.add(REPO, {NAME: CONTENT, "README.md": b"new"})
    newer = snapshot(REPO, endpoint=hub.endpoint).open(NAME)
    assert newer.commit != file.commit
    hub.reset_counts()
    assert bring(newer, target) == SHA256
    assert hub.sent_bytes == len(CONTENT) - 1_000_000


def test_new_content_starts_anew(hub: HubServer, file: RemoteFile, target: Path) -> None:
    hub.plan(Fault(path=NAME, where="cdn", skip=1, etag='"x"'))
    other = sound_gguf(1_000_000, 1)
    hub.add(REPO, {NAME: other})
    bring(snapshot(REPO, endpoint=hub.endpoint).open(NAME), target)
    assert partial_path(target).read_bytes() == other


def test_a_hub_with_xet_that_fails_is_asked_by_http(hub: HubServer, target: Path) -> None:
    hub.add("owner/xet", {NAME: CONTENT}, xet=True)
    file = snapshot("owner/xet", endpoint=hub.endpoint).open(NAME)
    assert file.find_xet() is not None
    assert bring(file, target) == SHA256


def test_a_cached_file_is_linked(tmp_path: Path, target: Path) -> None:
    cached = tmp_path / "blob"
    cached.write_bytes(CONTENT)
    assert link_cached(cached, SHA256, target, lambda done, fetching: None) == SHA256
    assert partial_path(target).samefile(cached)


def test_a_cached_file_of_other_bytes_is_left_alone(tmp_path: Path, target: Path) -> None:
    cached = tmp_path / "blob"
    cached.write_bytes(CONTENT[:-1])
    assert link_cached(cached, SHA256, target, lambda done, fetching: None) is None
    assert names(tmp_path) == ["blob"]


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_killed_and_started_again(hub: HubServer, target: Path) -> None:
    content = sound_gguf(60_000_000, 4)
    hub.add("owner/large", {NAME: content})
    code = (
        "import sys; from pathlib import Path\n"
        "from fwlocal.hub.repository import snapshot\n"
        "from fwlocal.hub.download import bring\n"
        "file = snapshot('owner/large', endpoint=sys.argv[1]).open('model.gguf')\n"
        "bring(file, Path(sys.argv[2]))\n"
        "Path(sys.argv[2]).touch()\n"
    )
    chance, kills = random.Random(5), 0
    while not target.exists():
        process = subprocess.Popen([sys.executable, "-c", code, hub.endpoint, str(target)])
        before = hub.sent_bytes
        while kills < 4 and process.poll() is None:
            if hub.sent_bytes - before > chance.randrange(1, 20_000_000):
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills == 4
    assert partial_path(target).read_bytes() == content
    assert hub.sent_bytes <= len(content) + kills * (16 << 20)
