"""Headers of GGUFs that stay on the Hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from fwlocal.errors import BadModelFile, NetworkError
from fwlocal.gguf import GGUFHeader, MoreNeeded, header_of, read_header
from fwlocal.hub.listing import whole
from fwlocal.hub.remote_header import FIRST_BYTES, read_beginning, remote_header
from fwlocal.hub.repository import snapshot
from fwlocal.whole import read_whole
from tests.hub_server import HubServer
from tests.tiny_llama import Shape, write_gguf

REPO = "owner/whale"


def the_same(found: GGUFHeader, local: GGUFHeader) -> bool:
    return replace(found, path=local.path) == local


def large_gguf(path: Path, n_bytes: int, *, n_tokens: int = 100) -> Path:
    """A GGUF with ``n_tokens`` words in its vocabulary and one tensor of ``n_bytes``, a hole."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list([f"word-{number:08d}" for number in range(n_tokens)])
    writer.add_tensor_info("token_embd.weight", [n_bytes // 4], np.dtype("float32"), n_bytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        file.truncate(end + -end % 32 + n_bytes)
    return path


def test_only_the_beginning_is_fetched(hub: HubServer, tmp_path: Path) -> None:
    path = large_gguf(tmp_path / "m.gguf", 200_000_000)
    hub.add(REPO, {"m.gguf": path})
    source = snapshot(REPO, endpoint=hub.endpoint)
    found = remote_header(source, whole(source, "m.gguf"))
    assert the_same(found, read_header(path))
    assert hub.sent_bytes == FIRST_BYTES


def test_more_is_fetched_while_the_header_goes_on(hub: HubServer, tmp_path: Path) -> None:
    path = large_gguf(tmp_path / "m.gguf", 100_000_000, n_tokens=200_000)
    hub.add(REPO, {"m.gguf": path})
    found = read_beginning(snapshot(REPO, endpoint=hub.endpoint).open("m.gguf"))
    assert the_same(found, read_header(path))
    assert hub.sent_bytes == 8 * FIRST_BYTES  # 4.2 MB of vocabulary, and no byte twice


def test_a_small_file_is_fetched_whole(hub: HubServer, tiny_gguf: Path) -> None:
    hub.add(REPO, {"m.gguf": tiny_gguf})
    found = read_beginning(snapshot(REPO, endpoint=hub.endpoint).open("m.gguf"))
    assert the_same(found, read_header(tiny_gguf))
    assert hub.sent_bytes == tiny_gguf.stat().st_size


def test_a_split_model_counts_whole(hub: HubServer, tmp_path: Path) -> None:
    parts = split_gguf(tmp_path)
    hub.add(REPO, {path.name: path for path in parts})
    source = snapshot(REPO, endpoint=hub.endpoint)
    found = remote_header(source, whole(source, parts[0].name))
    assert the_same(found, read_whole(parts[0]))
    assert found.weights_bytes == 3 * 40_000_000
    assert hub.sent_bytes < 2 * FIRST_BYTES


def split_gguf(folder: Path) -> list[Path]:
    """Three parts, a tensor in each."""
    parts = [folder / f"m-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    for number, path in enumerate(parts):
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 3)
        writer.add_tensor_info(
            f"blk.{number}.ffn_up.weight", [10_000_000], np.dtype("float32"), 40_000_000
        )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with path.open("r+b") as file:
            end = file.seek(0, 2)
            file.truncate(end + -end % 32 + 40_000_000)
    return parts


def test_what_is_in_hugging_faces_cache_is_not_fetched(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path
) -> None:
    from huggingface_hub import constants

    commit = hub.add(REPO, {"m.gguf": tiny_gguf})
    folder = tmp_path / "models--owner--whale" / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder / "m.gguf").write_bytes(tiny_gguf.read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = snapshot(REPO, endpoint=hub.endpoint)
    found = remote_header(source, whole(source, "m.gguf"))
    assert the_same(found, read_header(tiny_gguf))
    assert hub.sent_bytes == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GGUF", "only 4 bytes"),
        (b"<html>" + b" " * 5_000_000, "no GGUF file"),
        (b"GGUF\3\0\0\0" + b"\xff" * 16 + b"\0" * 5_000_000, "claims 18446744073709551615"),
    ],
)
def test_what_is_no_gguf_is_refused_at_once(hub: HubServer, data: bytes, says: str) -> None:
    hub.add(REPO, {"m.gguf": data})
    with pytest.raises(BadModelFile, match=f"m.gguf: .*{says}"):
        read_beginning(snapshot(REPO, endpoint=hub.endpoint).open("m.gguf"))
    assert hub.sent_bytes <= FIRST_BYTES


def test_a_header_without_an_end_is_given_up(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large_gguf(tmp_path / "m.gguf", 100_000_000, n_tokens=200_000)
    hub.add(REPO, {"m.gguf": path})
    monkeypatch.setattr("fwlocal.hub.remote_header.MOST_BYTES", 2 << 20)
    with pytest.raises(BadModelFile, match="its header takes more than 2 MiB; name another file"):
        read_beginning(snapshot(REPO, endpoint=hub.endpoint).open("m.gguf"))


def test_a_file_that_changes_meanwhile_is_noticed(hub: HubServer, tiny_gguf: Path) -> None:
    hub.add(REPO, {"m.gguf": tiny_gguf})
    file = snapshot(REPO, endpoint=hub.endpoint).open("m.gguf")
    file.commit = hub.add(REPO, {"m.gguf": tiny_gguf.read_bytes() + b"more"})
    with pytest.raises(NetworkError, match="has changed on the server"):
        read_beginning(file)


def test_every_beginning_asks_for_more_or_is_the_header(tmp_path: Path) -> None:
    data = write_gguf(tmp_path / "m.gguf", Shape(vocab_size=273)).read_bytes()
    local = read_header(tmp_path / "m.gguf")
    about = local.data_offset - 64
    asked = []
    for n_bytes in (*range(0, about, 97), *range(about, about + 200, 3)):
        try:
            assert header_of(local.path, data[:n_bytes], len(data)) == local
        except MoreNeeded as more:
            asked.append((n_bytes, more.end))
    assert all(n_bytes < end <= local.data_offset for n_bytes, end in asked)
    assert len(asked) >= about // 97
