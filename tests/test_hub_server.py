"""The Hub on loopback, as the real client and bare requests see it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub as hub
import pytest
from huggingface_hub import errors
from huggingface_hub.file_download import http_get
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hub_server import Fault, HubServer, client_environment

REPO = "whale/freewilly"
CONFIG = b'{"model_type": "llama"}'
MODEL = bytes(range(256)) * 40
FILES = {"config.json": CONFIG, "sub/model.gguf": MODEL}
CONFIG_URL = f"/{REPO}/resolve/main/config.json"
MODEL_URL = f"/{REPO}/resolve/main/sub/model.gguf"


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def api(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.HfApi]:
    """The real client, with none of the user's own tokens and proxies."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    yield hub.HfApi(endpoint=server.endpoint, token=False)
    hub.close_session()


@dataclass(frozen=True)
class Got:
    status: int
    headers: Message
    body: bytes


def ask(url: str, method: str = "GET", **headers: str) -> Got:
    """One bare request; ``if_range`` is the header If-Range."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"{parts.path}?{parts.query}", headers=named)
        answer = connection.getresponse()
        return Got(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def link(server: HubServer, path: str = MODEL_URL) -> str:
    """Where the Hub sends a client for a large file."""
    answer = ask(server.endpoint + path, "HEAD")
    assert answer.status == 302
    return answer.headers["Location"]


def read_until_lost(url: str) -> tuple[bytes, type[Exception] | None]:
    """What arrives of a body, and how the connection ends."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    got = bytearray()
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        with connection.getresponse() as answer:
            size = int(answer.headers["Content-Length"])
            while piece := answer.read1(1 << 16):
                got += piece
        return bytes(got), None if len(got) == size else EOFError
    except ConnectionError as error:
        return bytes(got), type(error)
    finally:
        connection.close()


# The real client


def test_model_info_tells_files_sizes_and_hashes(server: HubServer, api: hub.HfApi) -> None:
    commit = server.add(REPO, FILES, licence="cc-by-nc-4.0")

    info = api.model_info(REPO, files_metadata=True)

    assert (info.sha, info.gated, info.private) == (commit, False, False)
    assert info.card_data is not None
    assert info.card_data.license == "cc-by-nc-4.0"
    config, model = info.siblings or []
    assert (config.rfilename, config.size, config.lfs) == ("config.json", len(CONFIG), None)
    assert config.blob_id == hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
    assert model.lfs is not None
    assert (model.rfilename, model.size, model.lfs.size) == ("sub/model.gguf", 10240, 10240)
    assert model.lfs.sha256 == hashlib.sha256(MODEL).hexdigest()
    assert model.lfs.pointer_size == 130
    assert [s.size for s in api.model_info(REPO).siblings or []] == [None, None]


def test_a_branch_moves_and_its_old_commit_stays(
    server: HubServer, api: hub.HfApi, tmp_path: Path
) -> None:
    old = server.add(REPO, FILES)
    new = server.add(REPO, {"config.json": b"{}"})
    draft = server.add(REPO, {"config.json": b"[]"}, revision="refs/pr/35")

    assert len({old, new, draft}) == 3
    assert api.model_info(REPO).sha == new
    assert api.model_info(REPO, revision=old).sha == old
    assert api.model_info(REPO, revision="refs/pr/35").sha == draft
    refs = api.list_repo_refs(REPO, include_pull_requests=True)
    assert [(ref.name, ref.target_commit) for ref in refs.branches] == [("main", new)]
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests or []] == [
        ("refs/pr/35", draft)
    ]
    for revision, content in ((old, CONFIG), ("main", b"{}"), ("refs/pr/35", b"[]")):
        path = api.hf_hub_download(REPO, "config.json", revision=revision, cache_dir=tmp_path)
        assert Path(path).read_bytes() == content


def test_models_are_found_by_name_owner_and_kind(server: HubServer, api: hub.HfApi) -> None:
    server.add(REPO, FILES)
    server.add("whale/config-only", {"config.json": CONFIG})
    server.add("other/freewilly-2", FILES)
    server.add("whale/hidden", FILES, private=True)

    def found(**wanted: str | int) -> list[str]:
        return [model.id for model in api.list_models(**wanted)]  # type: ignore[arg-type]

    assert found() == [REPO, "whale/config-only", "other/freewilly-2"]
    assert found(search="FreeWilly") == [REPO, "other/freewilly-2"]
    assert found(author="whale", filter="gguf") == [REPO]
    assert found(limit=1) == [REPO]


def test_a_whole_repository_is_downloaded(
    server: HubServer, api: hub.HfApi, tmp_path: Path
) -> None:
    server.add(REPO, FILES)

    folder = Path(api.snapshot_download(REPO, local_dir=tmp_path))

    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_the_same_bytes_may_be_a_small_and_a_large_file(server: HubServer) -> None:
    server.add(REPO, {"model.gguf": MODEL, "model.txt": MODEL})

    answer = ask(link(server, f"/{REPO}/resolve/main/model.gguf"))

    assert answer.headers["ETag"] == f'"{hashlib.sha256(MODEL).hexdigest()}"'


@pytest.mark.parametrize(("name", "content"), FILES.items())
def test_a_file_is_downloaded(
    server: HubServer, api: hub.HfApi, tmp_path: Path, name: str, content: bytes
) -> None:
    commit = server.add(REPO, FILES)

    path = api.hf_hub_download(REPO, name, cache_dir=tmp_path)

    assert Path(path).read_bytes() == content
    assert commit in path
    assert server.sent_bytes == len(content)
    assert server.requests[-1].where == ("cdn" if name.endswith(".gguf") else "hub")


def test_a_file_of_the_disk_is_served_from_there(
    server: HubServer, api: hub.HfApi, tmp_path: Path
) -> None:
    content = os.urandom(3 << 20)
    source = tmp_path / "weights"
    source.write_bytes(content)
    server.add(REPO, {"no-suffix": source})

    path = api.hf_hub_download(REPO, "no-suffix", cache_dir=tmp_path / "cache")

    assert Path(path).read_bytes() == content
    assert server.sent_bytes == len(content)
    assert (
        ask(link(server, f"/{REPO}/resolve/main/no-suffix"), Range="bytes=-3").body
        == (content[-3:])
    )


def test_metadata_of_a_large_file_are_on_the_redirect(server: HubServer, api: hub.HfApi) -> None:
    commit = server.add(REPO, FILES, xet=True)

    data = api.get_hf_file_metadata(
        url=hub.hf_hub_url(REPO, "sub/model.gguf", endpoint=server.endpoint)
    )

    assert (data.commit_hash, data.size) == (commit, len(MODEL))
    assert data.etag == hashlib.sha256(MODEL).hexdigest()
    assert data.location.startswith(server.cdn)
    assert data.xet_file_data is not None
    assert len(data.xet_file_data.file_hash) == 64
    assert ask(data.xet_file_data.refresh_route).status == 404
    assert server.sent_bytes == 0


@pytest.mark.parametrize(
    ("repo", "file", "revision", "error"),
    [
        ("whale/none", "config.json", "main", errors.RepositoryNotFoundError),
        (REPO, "none.json", "main", errors.RemoteEntryNotFoundError),
        (REPO, "config.json", "none", errors.RevisionNotFoundError),
    ],
)
def test_what_is_not_there(
    server: HubServer,
    api: hub.HfApi,
    tmp_path: Path,
    repo: str,
    file: str,
    revision: str,
    error: type[Exception],
) -> None:
    server.add(REPO, FILES)

    with pytest.raises(error):
        api.hf_hub_download(repo, file, revision=revision, cache_dir=tmp_path)


def test_a_gated_repository_shows_itself_but_not_its_files(
    server: HubServer, api: hub.HfApi
) -> None:
    server.add(REPO, FILES, gated=True)
    server.tokens |= {"hf_known", "hf_granted"}
    server.granted.add(("hf_granted", REPO))
    url = hub.hf_hub_url(REPO, "config.json", endpoint=server.endpoint)

    assert api.model_info(REPO).gated == "manual"
    for token, status in ((False, 401), ("hf_known", 403)):
        with pytest.raises(errors.GatedRepoError) as refused:
            hub.get_hf_file_metadata(url, token=token, endpoint=server.endpoint)
        assert refused.value.response.status_code == status
    assert hub.get_hf_file_metadata(url, token="hf_granted").size == len(CONFIG)
    assert server.requests[-1].authorization == "Bearer hf_granted"


def test_a_private_repository_is_not_found_without_a_granted_token(
    server: HubServer, api: hub.HfApi
) -> None:
    server.add(REPO, FILES, private=True)
    server.tokens |= {"hf_known", "hf_granted"}
    server.granted.add(("hf_granted", REPO))

    for token, status in ((False, 401), ("hf_known", 404)):
        with pytest.raises(errors.RepositoryNotFoundError) as refused:
            api.model_info(REPO, token=token)
        assert refused.value.response.status_code == status
    assert api.model_info(REPO, token="hf_granted").private


def test_tokens_are_known_or_refused(server: HubServer, api: hub.HfApi) -> None:
    server.add(REPO, FILES)
    server.tokens.add("hf_known")

    assert api.whoami("hf_known")["name"] == "tester"
    for call in (lambda: api.whoami("hf_bad"), lambda: api.model_info(REPO, token="hf_bad")):
        with pytest.raises(errors.HfHubHTTPError) as refused:
            call()
        assert refused.value.response.status_code == 401


def test_names_are_listed_as_they_are(server: HubServer, api: hub.HfApi) -> None:
    names = ["../evil.gguf", "C:\\x.gguf", "/abs.gguf", "a b?#%41.gguf", "鯨.gguf"]
    server.add(REPO, {name: name.encode() for name in names})

    assert [file.rfilename for file in api.model_info(REPO).siblings or []] == names
    for name in names[3:]:
        url = hub.hf_hub_url(REPO, name, endpoint=server.endpoint)
        assert ask(link(server, urlsplit(url).path)).body == name.encode()


def test_the_client_goes_on_where_a_closed_connection_left_off(
    server: HubServer, api: hub.HfApi, tmp_path: Path
) -> None:
    chunk = hub.constants.DOWNLOAD_CHUNK_SIZE  # what arrives of a part of it is thrown away
    source = tmp_path / "model.gguf"
    source.write_bytes(os.urandom(chunk + 5000))
    server.add(REPO, {"sub/model.gguf": source})
    server.cut([chunk + 1000], hard=False)

    with (tmp_path / "got").open("wb") as got:
        http_get(link(server), got)

    assert (tmp_path / "got").read_bytes() == source.read_bytes()
    assert server.requests[-1].range == f"bytes={chunk}-"
    assert [seen.sent_bytes for seen in server.requests[1:]] == [chunk + 1000, 5000]


def test_a_program_downloads_with_the_servers_environment(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server.add(REPO, FILES, xet=True)
    environment = client_environment(server, tmp_path / "hf")
    code = f"import huggingface_hub as hub\nprint(hub.hf_hub_download('{REPO}', 'sub/model.gguf'))"

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    plain = run(HF_HUB_DISABLE_XET="1")
    path = Path(plain.stdout.strip())
    assert plain.returncode == 0, plain.stderr
    assert path.read_bytes() == MODEL
    assert path.is_relative_to(tmp_path / "hf")
    assert {seen.authorization for seen in server.requests} == {None}


# Bare requests


@pytest.mark.parametrize(
    ("span", "status", "content", "told"),
    [
        ("bytes=0-", 206, MODEL, "bytes 0-10239/10240"),
        ("bytes=5-9", 206, MODEL[5:10], "bytes 5-9/10240"),
        ("bytes=10000-99999", 206, MODEL[10000:], "bytes 10000-10239/10240"),
        ("bytes=-7", 206, MODEL[-7:], "bytes 10233-10239/10240"),
        ("bytes=-99999", 206, MODEL, "bytes 0-10239/10240"),
        ("bytes=10240-", 416, b"", "bytes */10240"),
        ("bytes=-0", 416, b"", "bytes */10240"),
        ("bytes=9-5", 200, MODEL, None),
        ("bytes=0-1,5-6", 200, MODEL, None),
        ("lines=1-2", 200, MODEL, None),
    ],
)
def test_ranges(server: HubServer, span: str, status: int, content: bytes, told: str) -> None:
    server.add(REPO, FILES)

    answer = ask(link(server), Range=span)

    assert (answer.status, answer.body) == (status, content)
    assert answer.headers["Content-Range"] == told
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{hashlib.sha256(MODEL).hexdigest()}"'


def test_any_range_is_the_slice(server: HubServer) -> None:
    server.add(REPO, FILES)
    url = link(server)

    @settings(max_examples=30, deadline=None)
    @given(start=st.integers(0, 10239), n_bytes=st.integers(1, 10240))
    def check(start: int, n_bytes: int) -> None:
        answer = ask(url, Range=f"bytes={start}-{start + n_bytes - 1}")
        assert answer.body == MODEL[start : start + n_bytes]

    check()


def test_a_range_of_another_version_is_refused_or_ignored(server: HubServer) -> None:
    server.add(REPO, FILES)
    url = link(server)
    etag = ask(url, "HEAD").headers["ETag"]

    assert ask(url, Range="bytes=1-2", If_Range=etag).status == 206
    assert ask(url, Range="bytes=1-2", If_Range='"old"').body == MODEL
    assert ask(url, Range="bytes=1-2", If_Match=f'"old", {etag}').status == 206
    assert ask(url, Range="bytes=1-2", If_Match='"old"').status == 412


def test_links_expire(server: HubServer) -> None:
    server.add(REPO, FILES)
    old = link(server)
    server.expire_links()

    assert ask(old).status == 403
    assert ask(link(server)).status == 200
    assert ask(link(server).replace("Signature=", "Signature=0")).status == 403


def test_requests_and_bytes_are_counted_until_reset(server: HubServer) -> None:
    server.add(REPO, FILES)
    ask(server.endpoint + CONFIG_URL, Range="bytes=0-3", Authorization="Bearer hf_bad")
    ask(server.endpoint + CONFIG_URL, Range="bytes=0-3")

    bad, good = server.requests
    assert (bad.status, bad.sent_bytes, bad.authorization) == (401, 0, "Bearer hf_bad")
    assert (good.method, good.path, good.range, good.status, good.sent_bytes, good.where) == (
        "GET",
        CONFIG_URL,
        "bytes=0-3",
        206,
        4,
        "hub",
    )
    assert server.sent_bytes == 4
    server.reset_counts()
    assert (server.requests, server.sent_bytes) == ([], 0)


# Faults


def test_a_planned_status_comes_after_the_skipped_and_as_often_as_said(server: HubServer) -> None:
    server.add(REPO, FILES)
    server.plan(
        Fault("config.json", skip=1, times=2, status=503, headers={"Retry-After": "1"}),
        Fault("sub/", method="HEAD", status=500),
        Fault("/api/models", status=429),
    )

    answers = [ask(server.endpoint + CONFIG_URL) for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 503, 503, 200]
    assert answers[1].headers["Retry-After"] == "1"
    assert ask(server.endpoint + MODEL_URL).status == 302
    assert ask(server.endpoint + MODEL_URL, "HEAD").status == 500
    assert [ask(f"{server.endpoint}/api/models/{REPO}").status for _ in "ab"] == [429, 200]


def test_faults_of_any_file_leave_the_api_alone(server: HubServer) -> None:
    server.add(REPO, FILES)
    server.plan(Fault(status=500, where="cdn"), Fault(status=502))

    info = ask(f"{server.endpoint}/api/models/{REPO}")

    assert json.loads(info.body)["id"] == REPO
    assert ask(server.endpoint + MODEL_URL).status == 502
    assert ask(link(server)).status == 500
    assert ask(link(server)).body == MODEL


@pytest.mark.parametrize(("hard", "end"), [(True, ConnectionResetError), (False, EOFError)])
@pytest.mark.parametrize("n_bytes", [0, 1, 10239])
def test_a_connection_is_lost_after_so_many_bytes(
    server: HubServer, hard: bool, end: type[Exception], n_bytes: int
) -> None:
    server.add(REPO, FILES)
    server.plan(Fault("model.gguf", after_bytes=n_bytes, hard=hard))

    got, lost = read_until_lost(link(server))

    assert lost is end
    assert len(got) == server.sent_bytes == n_bytes
    assert read_until_lost(link(server)) == (MODEL, None)


def test_one_byte_is_sent_wrong_where_it_is_asked_for(server: HubServer, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(MODEL)
    server.add(REPO, {**FILES, "sub/model.gguf": path})
    server.plan(Fault("model.gguf", flip_byte=300))
    url = link(server)

    assert ask(url, Range="bytes=0-299").body == MODEL[:300]
    assert ask(url, Range="bytes=300-400").body == bytes([MODEL[300] ^ 0xFF]) + MODEL[301:401]
    assert ask(url, Range="bytes=300-400").body == MODEL[300:401]


def test_another_etag_is_shown_and_makes_if_range_fail(server: HubServer) -> None:
    server.add(REPO, FILES)
    etag = f'"{hashlib.sha256(MODEL).hexdigest()}"'
    server.plan(Fault("model.gguf", method="", times=2, etag="other"))

    assert ask(server.endpoint + MODEL_URL, "HEAD").headers["X-Linked-Etag"] == '"other"'
    moved = ask(ask(server.endpoint + MODEL_URL).headers["Location"])
    assert moved.headers["ETag"] == etag

    server.plan(Fault("model.gguf", etag="other", where="cdn"))
    answer = ask(link(server), Range="bytes=1-2", If_Range=etag)
    assert (answer.status, answer.body) == (200, MODEL)
    assert answer.headers["ETag"] == '"other"'


def test_a_range_is_ignored_on_request(server: HubServer) -> None:
    server.add(REPO, FILES)
    server.plan(Fault("config.json", status=200))

    answers = [ask(server.endpoint + CONFIG_URL, Range="bytes=3-4") for _ in range(2)]

    assert [(a.status, a.body) for a in answers] == [(200, CONFIG), (206, CONFIG[3:5])]


def test_an_answer_waits(server: HubServer) -> None:
    server.add(REPO, FILES)
    server.plan(Fault(stall_s=0.2), Fault(stall_s=0.2, after_bytes=5))

    started_s = time.monotonic()
    assert ask(server.endpoint + CONFIG_URL).body == CONFIG
    answered_s = time.monotonic()
    assert read_until_lost(server.endpoint + CONFIG_URL) == (CONFIG[:5], ConnectionResetError)

    assert answered_s - started_s >= 0.2
    assert time.monotonic() - answered_s >= 0.2


def test_cuts_reset_whatever_carries_a_file_then(server: HubServer, tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    path.write_bytes(MODEL * 400)
    server.add(REPO, {"big.gguf": path})
    url = link(server, f"/{REPO}/resolve/main/big.gguf")
    server.cut([3_000_000, 1_000_000])

    assert [len(read_until_lost(url)[0]) for _ in range(3)] == [1_000_000, 2_000_000, 4_096_000]
    assert server.sent_bytes == 7_096_000


def test_a_cut_meets_every_connection_that_carries_a_file(
    server: HubServer, tmp_path: Path
) -> None:
    path = tmp_path / "big.gguf"
    with path.open("wb") as file:
        file.truncate(64 << 20)  # more than the kernel takes of a client that does not read
    server.add(REPO, {"big.gguf": path})
    url = link(server, f"/{REPO}/resolve/main/big.gguf")
    server.cut([32 << 20])
    parts = urlsplit(url)
    slow = http.client.HTTPConnection(parts.netloc, timeout=20)
    slow.request("GET", f"{parts.path}?{parts.query}")

    with slow.getresponse() as answer:
        got, lost = read_until_lost(url)
        with pytest.raises(ConnectionResetError):
            answer.read()
    slow.close()

    assert lost is ConnectionResetError
    assert 0 < len(got) < 64 << 20
    assert server.sent_bytes < 40 << 20


@pytest.mark.parametrize("fault", [Fault(stall_s=60), Fault(stall_s=60, after_bytes=5)])
def test_closing_ends_stalls_connections_and_threads(fault: Fault) -> None:
    before = set(threading.enumerate())
    ends: list[object] = []

    def wait_for_it(url: str) -> None:
        try:
            ends.append(read_until_lost(url))
        except http.client.HTTPException as error:
            ends.append(error)

    with HubServer() as server:
        server.add(REPO, FILES)
        idle = http.client.HTTPConnection(urlsplit(server.endpoint).netloc)
        idle.request("HEAD", CONFIG_URL)
        idle.getresponse().read()
        server.plan(fault)
        client = threading.Thread(target=wait_for_it, args=(server.endpoint + CONFIG_URL,))
        client.start()
        while len(server.requests) < 2:
            time.sleep(0.001)
        started_s = time.monotonic()
    client.join()
    idle.close()

    assert time.monotonic() - started_s < 5
    assert len(ends) == 1
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionError):
        ask(server.endpoint + CONFIG_URL)


def test_a_folder_is_served_by_hand(tmp_path: Path) -> None:
    (tmp_path / REPO / "sub").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / REPO / name).write_bytes(content)
    command = [sys.executable, "-m", "tests.hub_server", str(tmp_path)]
    root = Path(__file__).parents[1]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        config = ask(endpoint + CONFIG_URL)
        model = ask(ask(endpoint + MODEL_URL).headers["Location"])
        process.terminate()

    assert (config.body, model.body) == (CONFIG, MODEL)
