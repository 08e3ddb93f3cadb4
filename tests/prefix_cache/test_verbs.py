"""Which verbs read what another process evaluated, and which evaluate for themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fwlocal import llama
from fwlocal.encoding import encode
from fwlocal.gguf import read_header
from fwlocal.kv_cache import KVCache
from fwlocal.loader import EngineOptions
from fwlocal.loader.ahead import prefixes_for
from fwlocal.loader.native_plan import context_options
from fwlocal.loader.options import request_of
from fwlocal.loader.planning import look_around, settle
from fwlocal.prefix_cache import default_folder
from fwlocal.prefix_cache.folder import Stored, stored_files
from fwlocal.prompts import Segment
from fwlocal.store import ModelFile
from tests import tiny_llama
from tests.conftest import Run

N_BATCH = 512
REPORT = "the whale sings and the sea " * 60
OPTIONS = ["--raw", "--threads", "1", "--temp", "0", "--max-tokens", "5"]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random Llama that takes long prompts, and an empty cache."""
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "cache"))
    shape = tiny_llama.Shape(hidden_size=128, max_position_embeddings=2048)
    return tiny_llama.write_gguf(tmp_path / "long.gguf", shape)


def entry() -> Stored:
    """The only one."""
    (found,) = stored_files(default_folder())
    return found


@pytest.fixture
def kept(model: Path) -> Stored:
    """The report's state, as if evaluating it had taken long, in the setting of OPTIONS."""
    header = read_header(model)
    settled = settle(model, header, look_around((), 1), request_of(EngineOptions(), header))
    native = llama.Model(model, llama.LoadOptions())
    cache = KVCache(native, context_options(settled.plan, 1, 0), lambda: False)
    prefixes = prefixes_for(native, ModelFile("long", model), header, settled, 1 << 30)
    prompt = encode(native, [Segment(REPORT, scaffold=True)])
    assert len(prompt) > N_BATCH
    cache.make_room(len(prompt), 10)
    assert cache.evaluate(prompt)
    prefixes.keep(cache, len(prompt), 10.0)
    prefixes.close()
    cache.close()
    native.close()
    return entry()


def test_run_reads_it_and_says_the_same(fwlocal: Run, model: Path, kept: Stored) -> None:
    ask = ["run", "-m", model, *OPTIONS, "--json", f"{REPORT}and"]

    without = json.loads(fwlocal(*ask, "--no-cache").stdout)
    assert entry() == kept, "it was not even looked at"
    found = json.loads(fwlocal(*ask).stdout)

    assert without["reused_tokens"] == 0
    assert found["reused_tokens"] > 0
    assert found["reused_tokens"] % N_BATCH == 0, "the rest in the batches of the whole"
    assert found["text"] == without["text"]
    assert entry().used_ns > kept.used_ns


def test_another_setting_reads_nothing(fwlocal: Run, model: Path, kept: Stored) -> None:
    ask = ["run", "-m", model, *OPTIONS, "--json", f"{REPORT}and"]

    for more in (["--n-ubatch", "256"], ["--kv-type", "q8_0"]):
        assert json.loads(fwlocal(*ask, *more).stdout)["reused_tokens"] == 0


def test_a_batch_evaluates_for_itself(
    fwlocal: Run, model: Path, kept: Stored, tmp_path: Path
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps({"prompt": f"{REPORT}and"}) + "\n")

    done = fwlocal("run", "-m", model, *OPTIONS, "--batch", lines)

    assert json.loads(done.stdout)["reused_tokens"] == 0, done.stderr
    assert entry() == kept


def test_bench_measures(fwlocal: Run, model: Path, kept: Stored) -> None:
    done = fwlocal(
        "bench",
        model,
        "-p",
        "600",
        "-n",
        "1",
        "-r",
        "1",
        "-d",
        "0",
        "--no-quality",
        "--no-cold",
        "--threads",
        "1",
    )

    assert done.returncode == 0, done.stderr
    assert entry() == kept


def test_replay_evaluates_again(fwlocal: Run, model: Path, kept: Stored, tmp_path: Path) -> None:
    ask = ["run", "-m", model, *OPTIONS, "--json", f"{REPORT}and"]
    recorded = fwlocal(*ask).stdout
    assert json.loads(recorded)["reused_tokens"] > 0
    (tmp_path / "answer.json").write_text(recorded)
    used = entry()

    done = fwlocal("replay", tmp_path / "answer.json", "-m", model)

    assert done.stdout.startswith("the same text"), done.stderr
    assert entry() == used
