"""Exact ranges of a remote file, whatever the network does meanwhile."""

from __future__ import annotations

import random
import time

import pytest
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fwlocal.errors import NetworkError
from fwlocal.hub.remote_file import RemoteFile
from fwlocal.hub.repository import snapshot
from tests.hub.conftest import CONTENT, NAME, REPO
from tests.hub_server import Fault, HubServer


def read(file: RemoteFile, offset: int, count: int) -> bytes:
    data = bytearray(count)
    file.read_into(memoryview(data), offset)
    return bytes(data)


def impatient(hub: HubServer) -> RemoteFile:
    """The large file, of which three tries in a row may fail."""
    source = snapshot(REPO, endpoint=hub.endpoint)
    return RemoteFile(REPO, source.commit, source.file(NAME), hub.endpoint, (0.0, 0.0))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_range(file: RemoteFile, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(CONTENT) - 1))
    count = data.draw(st.integers(1, len(CONTENT) - offset))
    assert read(file, offset, count) == CONTENT[offset : offset + count]


def test_nothing_but_the_range_is_sent(hub: HubServer, file: RemoteFile) -> None:
    read(file, 1_000, 50_000)
    read(file, 2_000_000, 7)
    assert hub.sent_bytes == 50_007
    resolved = [seen for seen in hub.requests if "/resolve/" in seen.path]
    assert len(resolved) == 1  # the link is kept


def test_cuts_cost_nothing_twice(hub: HubServer, file: RemoteFile) -> None:
    chance = random.Random(1)
    hub.cut([chance.randrange(len(CONTENT)) for _ in range(10)])
    assert read(file, 0, len(CONTENT)) == CONTENT
    # What was on its way when a connection was reset is lost: some socket buffers.
    assert hub.sent_bytes < 1.9 * len(CONTENT)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("where", ["hub", "cdn"])
def test_an_answer_that_passes(hub: HubServer, file: RemoteFile, status: int, where: str) -> None:
    method = "HEAD" if where == "hub" else "GET"
    hub.plan(Fault(path=NAME, method=method, status=status, where=where))
    assert read(file, 100, 10) == CONTENT[100:110]


def test_the_server_says_how_long_to_wait(hub: HubServer, file: RemoteFile) -> None:
    hub.plan(Fault(path=NAME, status=429, headers={"Retry-After": "1"}, where="cdn"))
    started = time.monotonic()
    assert read(file, 0, 10) == CONTENT[:10]
    assert time.monotonic() - started >= 1


def test_a_stall_is_not_waited_for(hub: HubServer, file: RemoteFile) -> None:
    hub.plan(Fault(path=NAME, where="cdn", after_bytes=5000, stall_s=600))
    assert read(file, 0, 100_000) == CONTENT[:100_000]


def test_a_link_that_expires_is_found_anew(hub: HubServer, file: RemoteFile) -> None:
    assert read(file, 0, 10) == CONTENT[:10]
    hub.expire_links()
    assert read(file, 10, 10) == CONTENT[10:20]


def test_a_cdn_that_sends_us_on(hub: HubServer, file: RemoteFile) -> None:
    url = hf_hub_url(REPO, NAME, revision=file.commit, endpoint=hub.endpoint)
    link = get_hf_file_metadata(url, endpoint=hub.endpoint).location
    hub.plan(Fault(path=NAME, where="cdn", status=302, headers={"Location": link}))
    assert read(file, 10, 10) == CONTENT[10:20]


def test_another_version_is_an_error(hub: HubServer, file: RemoteFile) -> None:
    read(file, 0, 10)
    hub.plan(Fault(path=NAME, where="cdn", etag='"another"'))
    with pytest.raises(NetworkError, match=r"model\.gguf: has changed on the server"):
        read(file, 10, 10)


def test_a_hub_that_names_another_file_is_an_error(hub: HubServer, file: RemoteFile) -> None:
    hub.plan(Fault(path=NAME, method="HEAD", headers={"X-Linked-Size": "17"}))
    with pytest.raises(NetworkError, match="has changed"):
        read(file, 0, 10)


def test_a_server_without_ranges(hub: HubServer, file: RemoteFile) -> None:
    hub.plan(Fault(path=NAME, where="cdn", status=200, times=2))
    assert read(file, 0, 1000) == CONTENT[:1000]
    with pytest.raises(NetworkError, match="gives no ranges"):
        read(file, 1000, 10)


def test_patience_ends_and_says_why(hub: HubServer) -> None:
    hub.plan(Fault(path=NAME, where="cdn", status=503, times=99))
    with pytest.raises(NetworkError, match="answers with 503: try again later") as caught:
        read(impatient(hub), 0, 10)
    assert caught.value.exit_code == 4
    gets = [seen for seen in hub.requests if seen.where == "cdn"]
    assert len(gets) == 3


def test_progress_gives_new_patience(hub: HubServer) -> None:
    hub.plan(Fault(path=NAME, where="cdn", after_bytes=1000, times=8))
    assert read(impatient(hub), 0, 100_000) == CONTENT[:100_000]


def test_a_cdn_that_refuses_for_good(hub: HubServer) -> None:
    hub.plan(Fault(path=NAME, where="cdn", status=403, times=99))
    started = time.monotonic()
    with pytest.raises(NetworkError, match="403"):
        read(snapshot(REPO, endpoint=hub.endpoint).open(NAME), 0, 10)
    assert time.monotonic() - started < 10


def test_the_token_goes_to_the_hub_alone(
    hub: HubServer, file: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.tokens.add("hf_secret")
    read(file, 0, 10)
    sent = {seen.where: seen.authorization for seen in hub.requests}
    assert sent["hub"] == "Bearer hf_secret"
    assert sent["cdn"] is None
