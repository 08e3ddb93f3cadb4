"""Conversions of what is not on this disk: the same bytes, each fetched about once and none stored,
few twice after an interruption, and never of another file."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from convert import job as jobs
from convert import preview
from convert.display import summary
from convert.job import Request, prepare
from convert.pipeline import Progress
from convert.recipes import LEVELS
from convert.run import Outcome, run_job
from convert.sources import remote
from convert.sources.checkpoint import Location, locate, open_checkpoint
from convert.sources.source_file import WrongBytes
from convert.sources.spans import GAP_BYTES
from fwlocal.errors import NetworkError, UsageError
from tests.convert.checkpoints import write_checkpoint
from tests.convert.fake_hub import COMMIT, FakeRepository
from tests.convert.refused import refused
from tests.tiny_llama import Shape

SHAPE = Shape(512, 1024, 4, 8, 4, vocab_size=512)  # 20 MB of BF16
CASES = [("safetensors", 1), ("safetensors", 3), ("bin", 2)]
Checkpoints = dict[tuple[str, int], Path]


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """The model in several layouts, each as a snapshot in Hugging Face's cache."""
    folder = tmp_path_factory.mktemp("cache")
    return {
        case: write_checkpoint(
            folder / str(index) / "models--owner--whale" / "snapshots" / COMMIT,
            SHAPE,
            dtype="BF16",
            layout=case[0],
            shards=case[1],
        )
        for index, case in enumerate(CASES)
    }


def convert(
    source: Location,
    out: Path,
    base: Location | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """To Q8_0, as the command line does it."""
    job = prepare(Request(source, (LEVELS["Q8_0"],), out, n_threads=2, base=base))
    try:
        return run_job(job, on_progress=on_progress)
    finally:
        job.close()


def digest(folder: Path) -> str:
    """The SHA-256 of the one file that a conversion left."""
    (path,) = folder.iterdir()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_bytes(repository: FakeRepository) -> int:
    """Of its files of weights."""
    return sum(n for name, n in repository.sizes.items() if name.endswith((".bin", "tensors")))


# Whole conversions


@pytest.mark.parametrize("case", CASES)
def test_the_same_file_as_from_the_disk_each_byte_once(
    case: tuple[str, int], cache: Checkpoints, tmp_path: Path
) -> None:
    convert(locate(str(cache[case])), tmp_path / "local")
    repository = FakeRepository(cache[case], tmp_path / "here")
    outcome = convert(repository.location(), tmp_path / "remote")
    assert digest(tmp_path / "remote") == digest(tmp_path / "local")
    with closing(open_checkpoint(locate(str(cache[case])))) as source:
        tensors = sum(tensor.size_bytes for tensor in source.tensors.values())
    assert tensors > 19e6
    assert outcome.fetched_bytes <= repository.fetched_bytes <= 1.02 * tensors
    assert all(stream.is_closed for stream in repository.streams)
    stored = [path.name for path in tmp_path.rglob("*")]
    assert not any(name.endswith((".bin", ".safetensors")) for name in stored)


def test_a_delta_and_its_base_side_by_side(cache: Checkpoints, tmp_path: Path) -> None:
    delta = write_checkpoint(tmp_path / "delta", SHAPE, dtype="F16", seed=1, shards=2)
    local = Location(delta, None, "owner/delta", COMMIT)
    convert(local, tmp_path / "local", locate(str(cache["bin", 2])))
    first = FakeRepository(delta, tmp_path / "here" / "delta", "owner/delta")
    second = FakeRepository(cache["bin", 2], tmp_path / "here" / "base")
    convert(first.location(), tmp_path / "remote", second.location())
    assert digest(tmp_path / "remote") == digest(tmp_path / "local")
    for repository in (first, second):
        assert len(repository.streams) == 1
        assert repository.fetched_bytes <= 1.02 * weights_bytes(repository)


def test_what_is_there_already_is_not_fetched_again(cache: Checkpoints, tmp_path: Path) -> None:
    repository = FakeRepository(cache["safetensors", 3], tmp_path / "here")
    (path,) = convert(repository.location(), tmp_path / "out").wrote
    repository.fetched_bytes = 0
    repository.streams.clear()
    assert convert(repository.location(), tmp_path / "out").present == (path,)
    assert repository.fetched_bytes < 300_000  # headers
    assert not repository.streams


def test_a_file_that_is_here_is_read_here(cache: Checkpoints, tmp_path: Path) -> None:
    folder = cache["safetensors", 3]
    convert(locate(str(folder)), tmp_path / "local")
    repository = FakeRepository(folder, tmp_path / "here")
    names = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    repository.fetch_small()
    shutil.copy(folder / names[1], tmp_path / "here")
    (tmp_path / "here" / names[2]).write_bytes(b"only the start of it")
    convert(repository.location(), tmp_path / "remote")
    assert digest(tmp_path / "remote") == digest(tmp_path / "local")
    assert repository.fetched_bytes < weights_bytes(repository) - repository.sizes[names[1]] * 0.97


# Interruptions


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85])
@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_fetches_little_twice(
    case: tuple[str, int],
    share: float,
    cache: Checkpoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = 4 << 20
    monkeypatch.setattr(jobs, "WINDOW_BYTES", window)
    monkeypatch.setattr(remote, "PIECE_BYTES", 0)
    convert(locate(str(cache[case])), tmp_path / "local")
    repository = FakeRepository(cache[case], tmp_path / "here")

    def stop(progress: Progress) -> None:
        if progress.done_bytes > share * progress.total_bytes:
            raise Killed

    with pytest.raises(Killed):
        convert(repository.location(), tmp_path / "remote", on_progress=stop)
    assert not list((tmp_path / "remote").glob("*.gguf"))
    convert(repository.location(), tmp_path / "remote")
    assert digest(tmp_path / "remote") == digest(tmp_path / "local")
    headers = 2 * 150_000 * case[1]
    assert repository.fetched_bytes <= weights_bytes(repository) + window + GAP_BYTES + headers


def test_nothing_is_fetched_beyond_the_tensor_at_work_if_that_fills_the_window(
    cache: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WINDOW_BYTES", 1000)
    repository = FakeRepository(cache["safetensors", 1], tmp_path / "here")
    ahead = []

    def look(progress: Progress) -> None:
        ahead.append(repository.streams[0].fetched - progress.done_bytes)

    convert(repository.location(), tmp_path / "out", on_progress=look)
    largest = 512 * 1024 * 2
    assert max(ahead) <= largest + 10_000  # and the header


def test_an_error_of_the_network_is_passed_on_and_the_next_run_goes_on(
    cache: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WINDOW_BYTES", 1 << 20)
    repository = FakeRepository(cache["safetensors", 1], tmp_path / "here")
    repository.left_bytes = 10e6
    with pytest.raises(NetworkError, match="the connection broke"):
        convert(repository.location(), tmp_path / "out")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".partial", ".journal"}
    repository.left_bytes, repository.fetched_bytes = math.inf, 0
    convert(repository.location(), tmp_path / "out")
    assert 10e6 < repository.fetched_bytes < 16e6


def test_the_network_may_be_gone_from_the_start(cache: Checkpoints, tmp_path: Path) -> None:
    repository = FakeRepository(cache["bin", 2], tmp_path / "here")
    repository.left_bytes = 100_000
    with pytest.raises(NetworkError):
        convert(repository.location(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Wrong bytes


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("where", ["early", "late", "last"])
def test_wrong_bytes_are_found_and_nothing_is_kept(
    where: str, case: tuple[str, int], cache: Checkpoints, tmp_path: Path
) -> None:
    repository = FakeRepository(cache[case], tmp_path / "here")
    name = max(name for name in repository.sizes if name.endswith((".bin", ".safetensors")))
    size = repository.sizes[name]
    place = {"early": size // 10, "late": size - 100_000, "last": size - 70_000}[where]
    repository.wrong_byte = (name, place)
    with pytest.raises(WrongBytes, match=r"removed; run the command again") as caught:
        convert(repository.location(), tmp_path / "out")
    assert str(caught.value).startswith(str(Path("owner/whale") / name))
    assert ("the Hub names (sha256" in str(caught.value)) or ("CRC-32" in str(caught.value))
    assert not list((tmp_path / "out").iterdir())
    repository.wrong_byte = None
    convert(repository.location(), tmp_path / "out")
    convert(locate(str(cache[case])), tmp_path / "local")
    assert digest(tmp_path / "out") == digest(tmp_path / "local")


def test_the_rest_of_a_zip_is_checked_by_its_entries(
    cache: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on sees no file whole."""
    repository = FakeRepository(cache["bin", 2], tmp_path / "here")
    monkeypatch.setattr(jobs, "WINDOW_BYTES", 1 << 20)

    def stop(progress: Progress) -> None:
        if progress.n_done > 8:
            raise Killed

    with pytest.raises(Killed):
        convert(repository.location(), tmp_path / "out", on_progress=stop)
    name = "pytorch_model-00001-of-00002.bin"
    repository.wrong_byte = (name, repository.sizes[name] - 200_000)
    with pytest.raises(WrongBytes, match=rf"{name}: archive/data/\d+ came damaged \(its CRC-32"):
        convert(repository.location(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_file_of_the_cache_is_found_and_nothing_is_kept(
    cache: Checkpoints, tmp_path: Path
) -> None:
    """Once with the Hub's own word, and once offline, with the blob's name alone."""
    folder, name = cache["safetensors", 3], "model-00002-of-00003.safetensors"
    content = bytearray((folder / name).read_bytes())
    right = hashlib.sha256(content).hexdigest()
    content[len(content) // 2 | 1] ^= 1
    repository = FakeRepository(folder, tmp_path / "here")
    here, blob = repository.fetch_small() / name, tmp_path / "blobs" / right
    here.write_bytes(content)
    blob.parent.mkdir()
    blob.write_bytes(content)
    offline = tmp_path / "offline"
    shutil.copytree(folder, offline)
    (offline / name).unlink()
    (offline / name).symlink_to(blob)
    for source, wrong in ((repository.location(), here), (Location(offline), blob)):
        refusal = rf"{name}: is damaged \(sha256 \w+…, not {right[:12]}…\); remove {wrong}, and"
        with pytest.raises(WrongBytes, match=refusal):
            convert(source, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())
    here.unlink()
    convert(repository.location(), tmp_path / "out")
    convert(locate(str(folder)), tmp_path / "local")
    assert digest(tmp_path / "out") == digest(tmp_path / "local")


# What is told


def test_a_dry_run_tells_what_would_be_fetched(
    cache: Checkpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = FakeRepository(cache["bin", 2], tmp_path / "here")
    job = prepare(Request(repository.location(), (LEVELS["Q8_0"],), tmp_path))
    with closing(job):
        plan = preview.describe(job)
        preview.show(plan)
    assert plan["fetch_bytes"] == plan["source_bytes"] == weights_bytes(repository)
    assert plan["source_files"][0].endswith("pytorch_model-00001-of-00002.bin")
    assert "MB to fetch, nothing of it stored, " in capsys.readouterr().out
    assert not repository.streams


def test_the_end_tells_what_was_fetched(tmp_path: Path) -> None:
    outcome = Outcome((), (), 138_000_000_000)
    assert summary(outcome, 60).endswith("; 138.0 GB fetched, nothing of it stored")
    assert "fetched" not in summary(Outcome((), ()), 60)


def test_a_base_that_is_the_delta_itself(tmp_path: Path) -> None:
    location = FakeRepository(write_checkpoint(tmp_path / "m"), tmp_path / "here").location()
    refused(lambda: convert(location, tmp_path, location), "the delta itself", error=UsageError)
