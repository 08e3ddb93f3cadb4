"""What a repository holds, at one commit, and what is said when it cannot be told."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fwlocal.errors import FwlocalError, ModelNotFound, NetworkError, UsageError
from fwlocal.hub.repository import cached, fetch_small, is_plain, snapshot
from tests.hub.conftest import CONTENT, NAME, REPO
from tests.hub_server import Fault, HubServer


def refused(hub: HubServer, repo: str, revision: str = "main") -> FwlocalError:
    with pytest.raises(FwlocalError) as caught:
        snapshot(repo, revision, endpoint=hub.endpoint, waits_s=(0.0,))
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_files_of_one_commit(hub: HubServer) -> None:
    source = snapshot(REPO, endpoint=hub.endpoint)
    assert set(source.files) == {NAME, "config.json"}
    assert source.file(NAME).size_bytes == len(CONTENT)
    assert len(source.file(NAME).sha256 or "") == 64
    assert source.file("config.json").sha256 is None
    assert source.licence == "apache-2.0"


def test_the_commit_is_pinned(hub: HubServer) -> None:
    before = snapshot(REPO, endpoint=hub.endpoint)
    hub.add(REPO, {NAME: b"something else"})
    data = bytearray(10)
    before.open(NAME).read_into(memoryview(data), 0)
    assert data == CONTENT[:10]
    assert snapshot(REPO, endpoint=hub.endpoint).commit != before.commit
    assert snapshot(REPO, before.commit, endpoint=hub.endpoint).files == before.files


def test_a_branch_with_a_slash(hub: HubServer) -> None:
    hub.add(REPO, {NAME: b"another"}, revision="refs/pr/35")
    assert snapshot(REPO, "refs/pr/35", endpoint=hub.endpoint).file(NAME).size_bytes == 7


def test_names_that_lead_elsewhere_are_left_out(hub: HubServer) -> None:
    bad = ("../evil.gguf", "/abs.gguf", "C:\\x.gguf", "a/../../b.gguf", "\\\\host\\x.gguf")
    hub.add("owner/evil", {**dict.fromkeys(bad, b"x"), "good/one.gguf": b"x"})
    assert list(snapshot("owner/evil", endpoint=hub.endpoint).files) == ["good/one.gguf"]
    assert not any(map(is_plain, bad))


def test_a_name_that_is_nearly_right(hub: HubServer) -> None:
    error = refused(hub, "owner/modle")
    assert isinstance(error, ModelNotFound)
    assert "no such repository (did you mean owner/model?)" in str(error)


def test_a_file_that_is_nearly_right(hub: HubServer) -> None:
    with pytest.raises(ModelNotFound, match=r"did you mean model\.gguf"):
        snapshot(REPO, endpoint=hub.endpoint).open("modell.gguf")


def test_a_revision_that_is_not_there(hub: HubServer) -> None:
    hub.add(REPO, {NAME: b"x"}, revision="v2")
    error = refused(hub, REPO, "v3")
    assert isinstance(error, ModelNotFound)
    assert "are main, v2" in str(error)


@pytest.mark.parametrize("name", ["no owner at all", "a/b/c", "owner/..", ""])
def test_no_name_of_a_repository(hub: HubServer, name: str) -> None:
    assert isinstance(refused(hub, name), UsageError | ModelNotFound)


def test_a_gated_repository_without_a_token(hub: HubServer) -> None:
    hub.add("meta/llama", {NAME: b"x"}, gated=True)
    source = snapshot("meta/llama", endpoint=hub.endpoint)  # its list is public
    with pytest.raises(NetworkError) as caught:
        source.open(NAME).read_into(memoryview(bytearray(1)), 0)
    assert f"accept the terms at {hub.endpoint}/meta/llama, then log in" in str(caught.value)


def test_a_gated_repository_with_a_token_that_was_not_let_in(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    hub.tokens.add("hf_very_secret")
    hub.add("meta/llama", {NAME: b"x"}, gated=True)
    with pytest.raises(NetworkError, match="your token has no access") as caught:
        snapshot("meta/llama", endpoint=hub.endpoint).open(NAME).read_into(
            memoryview(bytearray(1)), 0
        )
    assert "secret" not in str(caught.value)
    hub.granted.add(("hf_very_secret", "meta/llama"))
    snapshot("meta/llama", endpoint=hub.endpoint).open(NAME).read_into(memoryview(bytearray(1)), 0)


def test_a_private_repository(hub: HubServer) -> None:
    hub.add("me/private", {NAME: b"x"}, private=True)
    assert "log in" in str(refused(hub, "me/private"))


@pytest.mark.parametrize(
    ("status", "says"), [(429, "too many requests"), (500, "try again later"), (503, "503")]
)
def test_an_answer_that_is_none(hub: HubServer, status: int, says: str) -> None:
    hub.plan(Fault(path="/api/models", status=status, times=9))
    error = refused(hub, REPO)
    assert isinstance(error, NetworkError)
    assert says in str(error)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(NetworkError, match="cannot be reached; check the network") as caught:
        snapshot(REPO, endpoint=f"http://127.0.0.1:{port}")
    assert caught.value.exit_code == 4


def test_a_page_to_log_in_to_some_network() -> None:
    class Portal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = b"<html>Welcome to our hotel</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Portal) as portal:
        answering = threading.Thread(target=portal.handle_request)
        answering.start()
        with pytest.raises(NetworkError, match=r"what answers is no Hub; .* log in"):
            snapshot(REPO, endpoint=f"http://127.0.0.1:{portal.server_port}")
        answering.join()


def test_an_answer_that_passes_is_asked_for_again(hub: HubServer) -> None:
    hub.plan(Fault(path="/api/models", status=503, times=2))
    assert NAME in snapshot(REPO, endpoint=hub.endpoint).files


def test_a_name_that_no_dns_knows() -> None:
    with pytest.raises(NetworkError, match=r"the name no\.invalid cannot be resolved"):
        snapshot(REPO, endpoint="http://no.invalid")


def test_small_files_go_into_the_hubs_own_cache(hub: HubServer) -> None:
    source = snapshot(REPO, endpoint=hub.endpoint)
    folder = fetch_small(source, ["config.json"])
    assert (folder / "config.json").read_bytes() == b"{}"
    assert cached(REPO, "config.json", source.commit) == folder / "config.json"
    assert cached(REPO, NAME, source.commit) is None
    hub.reset_counts()
    fetch_small(source, ["config.json"])
    assert hub.sent_bytes == 0
