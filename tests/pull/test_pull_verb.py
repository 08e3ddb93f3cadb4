"""``fwlocal pull`` and ``fwlocal convert owner/repo`` as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fwlocal.gguf import read_header
from tests.conftest import Run
from tests.convert.checkpoints import write_checkpoint
from tests.hub_server import Fault, HubServer
from tests.tiny_llama import Shape, write_gguf

SHAPE = Shape(256, 256, 2, 4, 2, vocab_size=512)
Ask = Callable[..., "CompletedProcess[str]"]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF, a checkpoint, a base and its delta."""
    folder = tmp_path_factory.mktemp("files")
    write_gguf(folder / "m.gguf")
    for seed, name in enumerate(("checkpoint", "base", "delta")):
        write_checkpoint(folder / name, SHAPE, seed=seed)
    return folder


def contents(folder: Path) -> dict[str, bytes | Path]:
    return {
        path.name: path if path.suffix == ".safetensors" else path.read_bytes()
        for path in folder.iterdir()
    }


@pytest.fixture
def hub(files: Path) -> Iterator[HubServer]:
    """A Hub with the repositories of the shipped models.toml, tiny as they are here."""
    with HubServer() as server:
        gguf = (files / "m.gguf").read_bytes()
        ready = {f"stablebeluga-7b.{level}.gguf": gguf for level in ("Q2_K", "Q4_K_M")}
        licence: dict[str, bytes | Path] = {"LICENSE.txt": b"Do no trade."}
        server.add("TheBloke/StableBeluga-7B-GGUF", {**ready, **licence})
        server.add("stabilityai/StableBeluga-7B", contents(files / "checkpoint"))
        server.add("stabilityai/StableBeluga1-Delta", contents(files / "delta"))
        server.add("huggyllama/llama-65b", contents(files / "base"))
        server.add("owner/Whale-GGUF", {"w.Q4_0.gguf": gguf, "w.Q8_0.gguf": gguf})
        server.add("owner/Whale", contents(files / "checkpoint"))
        yield server


@pytest.fixture
def ask(hub: HubServer, fwlocal: Run, tmp_path: Path) -> Ask:
    """The program with that Hub, and an empty cache of it."""

    def run(*arguments: str | Path, **settings: str) -> CompletedProcess[str]:
        own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "huggingface")}
        return fwlocal(*arguments, env={**own, **settings})

    return run


def test_a_known_model(ask: Ask, home: Path) -> None:
    path = home / "stable-beluga-7b" / "stable-beluga-7b-Q4_K_M.gguf"
    done = ask("pull", "stable-beluga-7b:Q4_K_M", "--accept-licence")
    assert done.stdout == f"{path}\n"
    assert "ready-made" in done.stderr
    assert ask("where", "stable-beluga-7b").stdout == f"{path}\n"
    (listed,) = json.loads(ask("list", "--json").stdout)
    assert listed["source"] == "TheBloke/StableBeluga-7B-GGUF"
    answer = ask("run", "-m", "stable-beluga-7b", "--max-tokens", "2", "Sing")
    assert answer.returncode == 0, answer.stderr
    assert ask("verify").returncode == 0


def test_the_licence_must_be_accepted_once(ask: Ask, hub: HubServer, home: Path) -> None:
    refused = ask("pull", "stable-beluga-7b:Q2_K")
    assert refused.returncode == 2
    assert "Non-commercial use only" in refused.stderr
    assert "--accept-licence" in refused.stderr
    assert not any(seen.sent_bytes and "gguf" in seen.path for seen in hub.requests)
    assert ask("pull", "stable-beluga-7b:Q2_K", "--accept-licence").returncode == 0
    assert ask("pull", "stable-beluga-7b:Q4_K_M").returncode == 0
    record = json.loads((home / "licences.json").read_text())
    assert set(record) == {"stable-beluga-7b"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_a_person_is_asked(hub: HubServer, home: Path, answer: str, code: int) -> None:
    import pexpect

    program = pexpect.spawn(
        sys.executable,
        ["-m", "fwlocal", "pull", "stable-beluga-7b:Q2_K"],
        env={**os.environ, "HF_ENDPOINT": hub.endpoint},
        encoding="utf-8",
        timeout=60,
    )
    program.expect("Stable Beluga NC")
    program.expect(r"the licence itself: \S+LICENSE.txt")
    program.expect(r"Do you accept\?")
    program.sendline(answer)
    program.expect(pexpect.EOF)
    program.close()
    assert program.exitstatus == code
    assert (home / "licences.json").exists() == (code == 0)


def test_a_dry_run_does_nothing(ask: Ask, hub: HubServer, home: Path) -> None:
    done = ask("pull", "stable-beluga-7b", "-q", "Q2_K,IQ4_XS", "--dry-run")
    assert done.stdout.splitlines()[0].startswith("stable-beluga-7b:Q2_K: ready-made")
    assert done.stdout.splitlines()[1].startswith("stable-beluga-7b:IQ4_XS: converted from")
    assert not home.exists()
    assert hub.sent_bytes == 0
    told = json.loads(ask("pull", "freewilly1:Q4_K_M", "--dry-run", "--json").stdout)
    assert told[0]["base"] == "huggyllama/llama-65b"


def test_a_repository_and_one_of_its_files(ask: Ask, home: Path) -> None:
    assert ask("pull", "owner/Whale-GGUF:q4_0").returncode == 0
    assert ask("pull", "owner/Whale-GGUF/w.Q8_0.gguf", "--name", "Moby").returncode == 0
    levels = {(m["model"], m["level"]) for m in json.loads(ask("list", "--json").stdout)}
    assert levels == {("Whale", "Q4_0"), ("Moby", "Q8_0")}
    assert ask("where", "owner/Whale-GGUF:Q4_0").stdout.strip().endswith("Whale-Q4_0.gguf")


def test_the_conversion_gives_what_the_local_one_gives(
    ask: Ask, files: Path, home: Path, tmp_path: Path
) -> None:
    done = ask("pull", "stable-beluga-7b:Q8_0", "--from-source", "--accept-licence")
    assert done.returncode == 0, done.stderr
    remote = Path(done.stdout.strip())
    local = ask("convert", files / "checkpoint", "-q", "Q8_0", "-o", tmp_path, "--name", "x")
    ours, theirs = read_header(remote), read_header(Path(local.stdout.strip()))
    key = "fwlocal.tensor.sha256"
    assert list(ours.metadata[key]) == list(theirs.metadata[key])  # type: ignore[arg-type]
    assert ours.text("fwlocal.source") == "stabilityai/StableBeluga-7B"
    assert ours.text("fwlocal.model") == "stable-beluga-7b"
    assert sorted(p.name for p in remote.parent.iterdir()) == [
        "stable-beluga-7b-Q8_0.gguf",
        "stable-beluga-7b-Q8_0.json",
    ]
    assert ask("verify", "stable-beluga-7b").returncode == 0


def test_a_delta_brings_its_base(ask: Ask, files: Path, tmp_path: Path) -> None:
    done = ask("convert", "freewilly1", "-q", "Q8_0", "--accept-licence")
    assert done.returncode == 0, done.stderr
    assert "its base huggyllama/llama-65b is read with it" in done.stderr
    arguments = ("-q", "Q8_0", "-o", tmp_path, "--base", files / "base")
    local = ask("convert", files / "delta", *arguments)
    key = "fwlocal.tensor.sha256"
    hashes = [
        list(read_header(Path(one.stdout.strip())).metadata[key])  # type: ignore[arg-type]
        for one in (done, local)
    ]
    assert hashes[0] == hashes[1]


def test_converting_asks_for_the_licence_too(ask: Ask) -> None:
    refused = ask("convert", "stabilityai/StableBeluga-7B", "-q", "Q8_0")
    assert refused.returncode == 2
    assert "--accept-licence" in refused.stderr
    planned = ask("convert", "stabilityai/StableBeluga-7B", "-q", "Q8_0", "--dry-run")
    assert planned.returncode == 0


def test_an_unknown_checkpoint_is_pulled_into_the_store(ask: Ask, home: Path) -> None:
    done = ask("pull", "owner/Whale", "-q", "Q8_0,Q4_0")
    assert done.stdout.splitlines() == [
        str(home / "Whale" / f"Whale-{level}.gguf") for level in ("Q8_0", "Q4_0")
    ]
    assert ask("pull", "owner/Whale:Q4_0").stderr.count("on this disk already") == 1


def test_a_conversion_goes_on_with_the_commit_it_began_with(
    ask: Ask, hub: HubServer, files: Path
) -> None:
    began = hub.add("owner/Whale", contents(files / "checkpoint"))
    hub.plan(Fault(path=".safetensors", where="cdn", skip=1, times=99, status=416))
    assert ask("pull", "owner/Whale:Q8_0").returncode == 4
    hub.forget_faults()
    moved = hub.add("owner/Whale", {**contents(files / "checkpoint"), "README.md": b"news"})
    done = ask("pull", "owner/Whale:Q8_0")
    assert f"owner/Whale has a new commit; going on with {began[:12]}" in done.stderr
    assert revision_of(done.stdout) == began != moved
    anew = ask("pull", "owner/Whale:Q8_0", "--overwrite", "--revision", "main")
    assert revision_of(anew.stdout) == moved


def revision_of(printed: str) -> str:
    return read_header(Path(printed.strip())).text("fwlocal.source.revision") or ""


@pytest.mark.parametrize(
    ("model", "code", "says"),
    [
        ("owner/Wahle-GGUF:Q4_0", 1, "did you mean owner/Whale-GGUF"),
        ("frewilly2", 1, "did you mean freewilly2"),
        ("owner/Whale-GGUF/w.Q5_0.gguf", 1, "did you mean w.Q"),
        ("owner/Whale-GGUF:Q6_K", 1, "there are Q4_0, Q8_0"),
        ("owner/Whale-GGUF@v7:Q4_0", 1, "the branches and tags are main"),
        ("smollm2-135m:Q8_0", 1, "has no level 'Q8_0'; there is Q4_1"),
        ("owner/Whale-GGUF/readme.txt", 2, "FILE.gguf"),
    ],
)
def test_what_is_not_there(ask: Ask, home: Path, model: str, code: int, says: str) -> None:
    done = ask("pull", model)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_split_model_is_pulled_whole_and_runs(
    ask: Ask, hub: HubServer, files: Path, tmp_path: Path, home: Path
) -> None:
    arguments = ("-q", "F32", "--split-size", "1M", "-o", tmp_path / "made", "--name", "s")
    first = Path(ask("convert", files / "checkpoint", *arguments).stdout.strip())
    parts = sorted(first.parent.glob("*.gguf"))
    assert len(parts) > 2
    hub.add("owner/Split-GGUF", {f"F32/{part.name}": part for part in parts})
    done = ask("pull", "owner/Split-GGUF")
    assert done.returncode == 0, done.stderr
    pulled = sorted((home / "Split").glob("*.gguf"))
    assert [one.read_bytes() for one in pulled] == [part.read_bytes() for part in parts]
    answer = ask("run", "-m", "Split:F32", "--raw", "--max-tokens", "2", "Sing")
    assert answer.returncode == 0, answer.stderr
    (listed,) = json.loads(ask("list", "--json").stdout)
    assert len(listed["files"]) == len(parts)
    assert ask("verify", "Split").returncode == 0


def test_pulling_converting_and_removing_at_once(ask: Ask, home: Path) -> None:
    commands = [
        ("pull", "owner/Whale:Q8_0"),
        ("pull", "owner/Whale:Q8_0", "--overwrite"),
        ("rm", "Whale:Q8_0", "--yes"),
        ("verify",),
    ] * 3
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda command: (command, ask(*command)), commands))
    for command, run in runs:
        assert run.returncode in (0, 1, 3), (command, run.stderr)
        assert "a bug in fwlocal" not in run.stderr
        assert run.returncode == 0 or command[0] != "pull", run.stderr
    assert ask("pull", "owner/Whale:Q8_0").returncode == 0
    assert ask("verify").returncode == 0
    left = sorted(path.name for path in (home / "Whale").iterdir())
    assert left == ["Whale-Q8_0.gguf", "Whale-Q8_0.json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("stable-beluga-7b:Q9",), "no quantization level is called 'Q9'"),
        (("stable-beluga-7b", "-q", "Q4"), "did you mean"),
        (("stable-beluga-7b", "-q", ","), "names no level"),
        (("stable-beluga-7b:IQ2_M",), "needs an importance matrix"),
        (("owner/Whale-GGUF:Q4_0", "--name", "../x"), "cannot be a folder's name"),
        (("owner/Whale-GGUF/w.Q4_0.gguf", "--from-source"), "leave --from-source out"),
    ],
)
def test_what_makes_no_sense_comes_before_the_licence(
    ask: Ask, home: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = ask("pull", *arguments, "--accept-licence")
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert not (home / "licences.json").exists()


def test_json_tells_what_is_there_now(ask: Ask, home: Path) -> None:
    done = ask("pull", "owner/Whale", "-q", "Q8_0", "--json")
    (told,) = json.loads(done.stdout)
    path = home / "Whale" / "Whale-Q8_0.gguf"
    assert (told["path"], told["size_bytes"]) == (str(path), path.stat().st_size)
    assert len(told["revision"]) == 40


def test_the_hubs_cache_serves_without_a_network(ask: Ask, hub: HubServer, home: Path) -> None:
    client = (
        "from huggingface_hub import hf_hub_download; import sys; hf_hub_download(*sys.argv[1:])"
    )
    subprocess.run(
        [sys.executable, "-c", client, "owner/Whale-GGUF", "w.Q4_0.gguf"],
        env={
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(home.parent / "huggingface"),
        },
        check=True,
    )
    done = ask("pull", "owner/Whale-GGUF:Q4_0", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "taken from Hugging Face's cache" in done.stderr
    assert ask("pull", "owner/Whale-GGUF:Q8_0", HF_HUB_OFFLINE="1").returncode == 4


def test_two_conversions_at_once_share_one(ask: Ask, hub: HubServer, home: Path) -> None:
    hub.plan(Fault(path=".safetensors", where="cdn", skip=1, stall_s=0.9))
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: ask("pull", "owner/Whale:Q8_0"), range(2)))
    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]
    assert runs[0].stdout == runs[1].stdout


def test_a_folder_of_the_same_name_is_not_the_repository(
    ask: Ask, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "Whale").symlink_to(files / "base")
    monkeypatch.chdir(tmp_path)
    done = ask("pull", "owner/Whale:Q8_0")
    header = read_header(Path(done.stdout.strip()))
    assert len(header.text("fwlocal.source.revision") or "") == 40


def test_an_answer_that_passes_is_told(ask: Ask, hub: HubServer) -> None:
    hub.plan(Fault(path="w.Q4_0", where="cdn", status=503, headers={"Retry-After": "2"}))
    done = ask("pull", "owner/Whale-GGUF:Q4_0")
    assert done.returncode == 0
    assert "the Hub answers with 503: try again later; trying again in 2 s" in done.stderr


def test_no_network(ask: Ask, home: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = ask("pull", "stable-beluga-7b:Q4_K_M", "--accept-licence", **nowhere)
    assert done.returncode == 4
    assert "cannot be reached" in done.stderr
    ask("pull", "stable-beluga-7b:Q4_K_M", "--accept-licence")
    again = ask("pull", "stable-beluga-7b:Q4_K_M", **nowhere)
    assert again.returncode == 0
    offline = ask("pull", "owner/Whale-GGUF:Q4_0", HF_HUB_OFFLINE="1")
    assert offline.returncode == 4
    assert "HF_HUB_OFFLINE" in offline.stderr


def test_a_gated_repository(ask: Ask, hub: HubServer, files: Path) -> None:
    hub.add("meta/Gated-GGUF", {"g.Q4_0.gguf": files / "m.gguf"}, gated=True)
    done = ask("pull", "meta/Gated-GGUF:Q4_0")
    assert done.returncode == 4
    assert f"accept the terms at {hub.endpoint}/meta/Gated-GGUF" in done.stderr
    hub.tokens.add("hf_very_secret")
    done = ask("pull", "meta/Gated-GGUF:Q4_0", HF_TOKEN="hf_very_secret")
    assert done.returncode == 4
    assert "secret" not in done.stdout + done.stderr
    hub.granted.add(("hf_very_secret", "meta/Gated-GGUF"))
    assert ask("pull", "meta/Gated-GGUF:Q4_0", HF_TOKEN="hf_very_secret").returncode == 0


def test_wrong_bytes_are_set_apart(ask: Ask, hub: HubServer, home: Path) -> None:
    hub.plan(Fault(path="w.Q4_0", where="cdn", flip_byte=100))
    done = ask("pull", "owner/Whale-GGUF:Q4_0")
    assert done.returncode == 4
    assert "wrong bytes came" in done.stderr
    assert [p.name for p in (home / "Whale").iterdir()] == ["Whale-Q4_0.gguf.quarantine"]
    assert json.loads(ask("list", "--json").stdout) == []
    assert ask("pull", "owner/Whale-GGUF:Q4_0").returncode == 0


def test_names_that_lead_elsewhere(ask: Ask, hub: HubServer, home: Path) -> None:
    hub.add("owner/evil", {"../../evil.Q4_0.gguf": b"x"})
    done = ask("pull", "owner/evil:Q4_0")
    assert done.returncode == 1
    assert not list(home.parent.rglob("evil*"))


def test_a_damaged_entry_says_the_way_back(ask: Ask, home: Path) -> None:
    path = Path(ask("pull", "owner/Whale-GGUF:Q4_0").stdout.strip())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = ask("verify")
    assert found.returncode == 3
    assert "fwlocal pull owner/Whale-GGUF:Q4_0 --overwrite" in found.stderr
    assert ask("pull", "owner/Whale-GGUF:Q4_0", "--overwrite").returncode == 0
    assert ask("verify").returncode == 0
