"""A road taken: files of the Hub in the store, each level whole, with its manifest."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from fwlocal.errors import DoesNotFit, FwlocalError, NetworkError, StoreError, UsageError
from fwlocal.hub.listing import by_level, whole
from fwlocal.hub.repository import snapshot
from fwlocal.pull.fetch import Progress, fetch
from fwlocal.pull.roads import Download
from fwlocal.store.manifest import read_manifest
from tests.hub_server import Fault, HubServer
from tests.sound_gguf import sound_gguf

REPO = "owner/Whale-GGUF"
CACHED = "owner/Cached-GGUF"  # of which Hugging Face's own cache has a copy
CONTENT = sound_gguf(2_000_000)
PARTS = [sound_gguf(500_000, n) for n in (1, 2, 3)]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        parts = {f"w-Q8_0-0000{n}-of-00003.gguf": part for n, part in enumerate(PARTS, 1)}
        server.add(REPO, {"w.Q4_0.gguf": CONTENT, **parts}, licence="mit")
        server.add(CACHED, {"w.Q4_0.gguf": CONTENT})
        yield server


def road_to(hub: HubServer, level: str = "Q4_0", repo: str = REPO) -> Download:
    source = snapshot(repo, endpoint=hub.endpoint)
    return Download("Whale", level, source, whole(source, by_level(source)[level][0]), None)


def take(road: Download, root: Path, *, overwrite: bool = False) -> tuple[Path, list[str]]:
    said: list[str] = []
    return fetch(road, root, said.append, overwrite=overwrite), said


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_with_its_manifest(hub: HubServer, tmp_path: Path) -> None:
    path, _ = take(road_to(hub), tmp_path)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "Whale") == ["Whale-Q4_0.gguf", "Whale-Q4_0.json"]
    manifest = read_manifest(tmp_path / "Whale" / "Whale-Q4_0.json")
    assert manifest is not None
    assert (manifest.road, manifest.source, manifest.licence) == ("download", REPO, "mit")
    assert len(manifest.revision) == 40


def test_all_parts(hub: HubServer, tmp_path: Path) -> None:
    seen: list[Progress] = []
    road = road_to(hub, "Q8_0")
    path = fetch(road, tmp_path, lambda line: None, seen.append)
    assert path.name == "Whale-Q8_0-00001-of-00003.gguf"
    assert [part.read_bytes() for part in sorted(path.parent.glob("*.gguf"))] == PARTS
    assert seen[-1].done_bytes == seen[-1].total_bytes == road.size_bytes
    manifest = read_manifest(tmp_path / "Whale" / "Whale-Q8_0.json")
    assert manifest is not None
    assert len(manifest.files) == 3


def test_finished_parts_stay(hub: HubServer, tmp_path: Path) -> None:
    hub.plan(Fault(path="00002-of", where="cdn", status=416))
    with pytest.raises(NetworkError):
        take(road_to(hub, "Q8_0"), tmp_path)
    hub.reset_counts()
    take(road_to(hub, "Q8_0"), tmp_path)
    assert not [seen for seen in hub.requests if "00001-of" in seen.path and seen.sent_bytes]


def test_a_split_model_is_replaced_whole_or_not_at_all(hub: HubServer, tmp_path: Path) -> None:
    take(road_to(hub, "Q8_0"), tmp_path)
    newer = [sound_gguf(400_000, n) for n in (11, 12, 13)]
    hub.add(REPO, {f"w-Q8_0-0000{n}-of-00003.gguf": part for n, part in enumerate(newer, 1)})
    hub.plan(Fault(path="00003-of", where="cdn", status=416))
    with pytest.raises(NetworkError):
        take(road_to(hub, "Q8_0"), tmp_path, overwrite=True)
    there = sorted((tmp_path / "Whale").glob("*.gguf"))
    assert [part.read_bytes() for part in there] == PARTS
    take(road_to(hub, "Q8_0"), tmp_path, overwrite=True)
    assert [part.read_bytes() for part in there] == newer


def test_a_level_that_is_split_no_more(hub: HubServer, tmp_path: Path) -> None:
    take(road_to(hub, "Q8_0"), tmp_path)
    hub.add(REPO, {"w-Q8_0.gguf": CONTENT})
    take(road_to(hub, "Q8_0"), tmp_path, overwrite=True)
    assert names(tmp_path / "Whale") == ["Whale-Q8_0.gguf", "Whale-Q8_0.json"]


def test_a_lost_part_is_fetched(hub: HubServer, tmp_path: Path) -> None:
    path, _ = take(road_to(hub, "Q8_0"), tmp_path)
    (path.parent / "Whale-Q8_0-00002-of-00003.gguf").unlink()
    take(road_to(hub, "Q8_0"), tmp_path)
    assert [part.read_bytes() for part in sorted(path.parent.glob("*.gguf"))] == PARTS


def test_a_file_that_nothing_is_known_of_is_not_replaced(hub: HubServer, tmp_path: Path) -> None:
    path = tmp_path / "Whale" / "Whale-Q4_0.gguf"
    path.parent.mkdir()
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="is another file; --overwrite replaces it"):
        take(road_to(hub), tmp_path)
    assert path.read_bytes() == b"precious"


def test_a_manifest_that_was_not_written_is_made_up_for(hub: HubServer, tmp_path: Path) -> None:
    path, _ = take(road_to(hub), tmp_path)
    path.with_name("Whale-Q4_0.json").unlink()  # as when the process was killed
    hub.reset_counts()
    take(road_to(hub), tmp_path)
    assert hub.sent_bytes == 0
    assert path.with_name("Whale-Q4_0.json").exists()


def test_another_sources_file_is_not_taken_for_it(hub: HubServer, tmp_path: Path) -> None:
    take(road_to(hub), tmp_path)
    with pytest.raises(UsageError, match=f"is on this disk, from {REPO}"):
        take(road_to(hub, repo=CACHED), tmp_path)


def test_a_failure_leaves_no_empty_folder(hub: HubServer, tmp_path: Path) -> None:
    hub.plan(Fault(path="w.Q4_0", where="cdn", status=416))
    with pytest.raises(NetworkError):
        take(road_to(hub), tmp_path)
    assert names(tmp_path) == []


def test_what_is_there_is_not_fetched(hub: HubServer, tmp_path: Path) -> None:
    take(road_to(hub), tmp_path)
    road = road_to(hub)
    hub.reset_counts()
    take(road, tmp_path)
    assert hub.sent_bytes == 0
    (tmp_path / "Whale" / "Whale-Q4_0.gguf").write_bytes(b"damaged")
    path, _ = take(road, tmp_path, overwrite=True)
    assert path.read_bytes() == CONTENT


def test_two_at_once_share_one_download(hub: HubServer, tmp_path: Path) -> None:
    hub.plan(Fault(path="w.Q4_0", where="cdn", stall_s=0.8))
    road = road_to(hub)
    hub.reset_counts()
    done: list[tuple[Path, list[str]]] = []
    threads = [
        threading.Thread(target=lambda: done.append(take(road, tmp_path, overwrite=True)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path, _ in done] == [True, True]
    assert hub.sent_bytes == len(CONTENT)
    (waiting,) = [said for _, said in done if said]
    assert f"process {os.getpid()}" in waiting[0]


def test_the_hubs_own_cache_is_used(hub: HubServer, tmp_path: Path) -> None:
    road = road_to(hub, repo=CACHED)
    there = hf_hub_download(CACHED, "w.Q4_0.gguf", endpoint=hub.endpoint)
    hub.reset_counts()
    path, said = take(road, tmp_path)
    assert hub.sent_bytes == 0
    assert path.samefile(there)
    assert "taken from Hugging Face's cache" in said[0]


def test_without_a_network_the_cache_will_do(hub: HubServer, tmp_path: Path) -> None:
    hf_hub_download(CACHED, "w.Q4_0.gguf", endpoint=hub.endpoint)
    asked = road_to(hub, repo=CACHED)
    source = replace(asked.source, commit="main", reason=NetworkError("no network"))
    road = Download("Whale", "Q4_0", source, asked.files, None)
    path, _ = take(road, tmp_path)
    assert path.read_bytes() == CONTENT


def test_without_network_and_copy(hub: HubServer, tmp_path: Path) -> None:
    hub.add("owner/other", {"o.gguf": b"x"})
    source = snapshot("owner/other", endpoint=hub.endpoint)
    source = replace(source, reason=NetworkError("no network"))
    road = Download("o", "Q4_0", source, (source.file("o.gguf"),), None)
    with pytest.raises(NetworkError, match="no network"):
        take(road, tmp_path)


def test_a_disk_that_is_too_small(hub: HubServer, tmp_path: Path) -> None:
    source = snapshot(REPO, endpoint=hub.endpoint)
    huge = replace(source.file("w.Q4_0.gguf"), size_bytes=1 << 60)
    source = replace(source, files={**source.files, huge.name: huge})
    hub.reset_counts()
    with pytest.raises(DoesNotFit, match=r"Whale:Q4_0 needs .* are free"):
        take(Download("Whale", "Q4_0", source, (huge,), None), tmp_path)
    assert hub.sent_bytes == 0


@pytest.mark.skipif(os.name != "posix", reason="a limit on file size stands for the disk")
def test_a_disk_that_fills_halfway(hub: HubServer, tmp_path: Path) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        with pytest.raises(DoesNotFit, match="no room left"):
            take(road_to(hub), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert ".Whale-Q4_0.gguf.partial" in names(tmp_path / "Whale")
    assert take(road_to(hub), tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_may_not_be_written(hub: HubServer, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        take(road_to(hub), tmp_path)


def test_a_store_that_is_a_file(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "Whale").write_text("in the way")
    with pytest.raises(FwlocalError, match="FWLOCAL_HOME"):
        take(road_to(hub), tmp_path)
