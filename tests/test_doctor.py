"""What `fwlocal doctor` says of cores, bandwidth and config.toml; test_cli.py has the verb."""

from __future__ import annotations

import io
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fwlocal.doctor import Report, as_data, examine, show
from fwlocal.doctor.examination import Worker
from fwlocal.workers import WorkerDevice
from tests import tiny_llama
from tests.prefix_cache.kept import Machine
from tests.workers.loopback import LoopbackWorker


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's settings; none of the developer's caches is used, on Linux."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.parent / "cache"))
    monkeypatch.setenv("FWLOCAL_CACHE", str(home.parent / "cache"))
    folder = home.parent / "config"
    folder.mkdir()
    return folder


def rows(report: Report, label: str, count: int = 1) -> list[str]:
    """What stands behind a label, and below it."""
    return [line.strip() for line in shown(report).partition(f"\n{label}")[2].splitlines()[:count]]


def shown(report: Report, *, is_terminal: bool = False, width: int = 80) -> str:
    text = io.StringIO()
    show(report, Console(file=text, width=width, force_terminal=is_terminal, color_system=None))
    return text.getvalue()


def test_cores_and_bandwidth(config: Path) -> None:
    first, second = examine(), examine()

    assert 1 <= first.performance_cores <= first.physical_cores <= first.logical_cores
    assert first.memory_bandwidth == second.memory_bandwidth, "measured once"
    assert f"{first.performance_cores} fast, {first.physical_cores} physical" in shown(first)
    assert f"GB/s read (measured {first.memory_bandwidth_measured})" in shown(first)


def test_workers_of_config_toml(config: Path) -> None:
    with LoopbackWorker() as there, socket.create_server(("127.0.0.1", 0), backlog=1) as busy:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            off = f"127.0.0.1:{closed.getsockname()[1]}"
        silent = f"127.0.0.1:{busy.getsockname()[1]}"
        names = json.dumps([there.address, off, silent])
        (config / "config.toml").write_text(f"workers = {names}\n")

        report = examine()

    free = report.workers[0].devices[0].free_bytes
    assert [worker.address for worker in report.workers] == [there.address, off, silent]
    assert report.workers[0].error is None
    assert not [problem for problem in report.problems if "worker" in problem.what]
    rows = shown(report).partition("\nworkers")[2].splitlines()
    assert rows[0].strip() == f"{there.address}: {free / 1e9:.1f} GB free"
    assert rows[1].strip().startswith(f"✗ worker {off}: no one listens there (")
    assert rows[2].strip().startswith(f"✗ worker {silent} takes the connection but does not answer")
    assert rows[3].strip() == 'without them: --workers ""'
    assert as_data(report)["workers"][0]["devices"][0]["free_bytes"] == free
    assert str(config / "config.toml") in shown(report)
    assert f"{config / 'models.toml'} (none)" in shown(report)


def test_workers_that_all_answer(config: Path) -> None:
    devices = WorkerDevice(10_000_000_000, 1 << 34), WorkerDevice(13_540_000_000, 1 << 34)
    report = replace(examine(), workers=(Worker("attic:50052", devices, None),))

    assert "workers           attic:50052: 23.5 GB free on 2 devices\n" in shown(report)
    assert "without them" not in shown(report)
    assert "\nworkers           none\n" in shown(replace(report, workers=()))


def test_the_features_that_llama_cpp_has(config: Path) -> None:
    build = (
        "llama.cpp 0.5.0: CUDA : ARCHS = 1,860 | USE_GRAPHS = 1 | PEER_MAX_BATCH_SIZE = 128 | "
        "CPU : SSE3 = 0 | AVX2 = 1 | REPACK = 1 |"
    )
    report = replace(examine(), llama_cpp=build)

    assert "\nllama.cpp         0.5.0 (USE_GRAPHS, AVX2, REPACK)\n" in shown(report)
    assert "\nllama.cpp         0.5.0\n" in shown(replace(report, llama_cpp="llama.cpp 0.5.0: "))
    assert "\nllama.cpp         not loaded\n" in shown(replace(report, llama_cpp=None))


def test_in_a_pipe_a_line_is_a_line(config: Path) -> None:
    long = "models-" * 30
    report = examine()
    report = replace(report, models_folder=replace(report.models_folder, path=Path(long)))

    piped, wide = shown(report), shown(report, is_terminal=True, width=300)

    assert any(long in line for line in piped.splitlines())
    assert all(line == line.rstrip() for line in piped.splitlines())
    assert piped.splitlines() == [line.rstrip() for line in wide.splitlines()], "the same"
    narrow = shown(report, is_terminal=True, width=80).splitlines()
    assert max(map(len, narrow[: len(narrow) // 2])) <= 80
    assert not any(long in line for line in narrow)


def test_a_config_toml_that_is_wrong(config: Path) -> None:
    (config / "config.toml").write_text('worker = ["attic"]\n')

    problems = [problem for problem in examine().problems if "config.toml" in problem.what]

    assert [problem.what.partition(": ")[2] for problem in problems] == [
        "unknown key 'worker'; did you mean 'workers'?"
    ]
    assert problems[0].fix == f"correct {config / 'config.toml'}, or move it away"


def test_what_the_prefix_cache_holds(config: Path) -> None:
    folder = config.parent / "cache" / "prefixes"
    (config / "config.toml").write_text('prefix_cache = "2G"\n')
    none = rows(examine(), "prefix cache")

    assert Machine(folder).put([*range(1000)]) == "written"
    report = examine()

    assert none == [f"0 B in 0 prompts (2.0 GiB at most): {folder}"]
    assert report.prompts is not None
    size = sum(path.stat().st_size for path in folder.glob("*.kv"))
    assert (report.prompts.n_prompts, report.prompts.size_bytes) == (1, size)
    assert rows(report, "prefix cache") == [
        f"{size / 1000:.0f} kB in 1 prompt (2.0 GiB at most): {folder}"
    ]
    assert as_data(report)["prompts"]["bound_bytes"] == 2 << 30


def test_a_prefix_cache_that_is_turned_off(config: Path) -> None:
    (config / "config.toml").write_text('prefix_cache = "0"\n')
    (config.parent / "cache").mkdir(exist_ok=True)
    (config.parent / "cache" / "prefixes").write_text("a file\n")

    report = examine()

    assert "(turned off in config.toml): " in rows(report, "prefix cache")[0]
    assert not [problem for problem in report.problems if "prefixes" in problem.what]


def test_a_prefix_cache_that_cannot_be_used(config: Path) -> None:
    (config.parent / "cache").mkdir(exist_ok=True)
    (config.parent / "cache" / "prefixes").write_text("a file\n")

    (problem,) = [one for one in examine().problems if "prefixes" in one.what]

    assert "cannot be read" in problem.what
    assert "set FWLOCAL_CACHE to another folder" in problem.fix


def test_the_models_that_draft_for_others(config: Path, home: Path) -> None:
    def put(name: str, layers: int, *extra: str) -> None:
        tokens = tuple((text, -50.0, 1) for text in extra)
        n_vocab = len(tiny_llama.vocabulary()) + len(extra)
        shape = tiny_llama.Shape(num_hidden_layers=layers, vocab_size=n_vocab)
        (home / name).mkdir(parents=True, exist_ok=True)
        path = home / name / f"{name}-Q4_K_M.gguf"
        tiny_llama.write_gguf(path, shape, extra_tokens=tokens)

    assert rows(examine(), "drafts") == ["none: models.toml names one for no model on this disk"]

    put("freewilly2", 3, "one")
    assert rows(examine(), "drafts") == [
        "freewilly2: stable-beluga-7b is not on this disk; `fwlocal pull stable-beluga-7b` "
        "brings it"
    ]

    put("stable-beluga-7b", 2, "one")
    put("stable-beluga-13b", 3, "two")
    ready, other = rows(examine(), "drafts", 2)

    assert ready == "freewilly2: stable-beluga-7b:Q4_K_M drafts for it"
    assert other.startswith("✗ stable-beluga-13b: the draft stable-beluga-7b-Q4_K_M.gguf has ano")
    assert "is 'one' and not 'two'" in other
