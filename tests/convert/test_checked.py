"""Which remote files were held against their hashes, over all the runs of a conversion, and what is
told of the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from convert import job as jobs
from convert.checked import Checked
from convert.job import Request, prepare
from convert.pipeline import Progress
from convert.recipes import LEVELS
from convert.run import run_job
from convert.sources import remote
from convert.sources.checkpoint import Location
from fwlocal.gguf import read_header
from tests.convert import torch_writer
from tests.convert.checkpoints import write_checkpoint
from tests.convert.fake_hub import FakeRepository
from tests.tiny_llama import Shape, checkpoint

SHAPE = Shape(512, 1024, 4, 8, 4, vocab_size=512)  # 20 MB of BF16, far more than a gap
FILES = [f"owner/whale/model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
WENT_ON = "went on after an interruption, so its SHA-256 could not be checked as a whole"


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in three files."""
    return write_checkpoint(tmp_path_factory.mktemp("m") / "m", SHAPE, dtype="BF16", shards=3)


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file comes as a whole before the first tensor is done."""
    monkeypatch.setattr(jobs, "WINDOW_BYTES", 1 << 20)
    monkeypatch.setattr(remote, "PIECE_BYTES", 0)


def convert(
    source: Location,
    out: Path,
    levels: str = "Q8_0",
    stop_after: int = 1000,
    base: Location | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Convert until ``stop_after`` tensors are done; what the user is told."""
    told: list[str] = []

    def look(progress: Progress) -> None:
        if progress.n_done >= stop_after:
            raise Killed

    chosen = tuple(LEVELS[name] for name in levels.split(","))
    request = Request(source, chosen, out, n_threads=2, base=base, overwrite=overwrite)
    with closing(prepare(request)) as job:
        run_job(job, told.append, look)
    return told


def killed(source: Location, out: Path, n_tensors: int, levels: str = "Q8_0") -> None:
    """A conversion that ends after so many of the 39 tensors, of which each file has 13."""
    with pytest.raises(Killed):
        convert(source, out, levels, n_tensors)


def unchecked(told: list[str]) -> list[str]:
    """The files that are named as not checked, and nothing else is said of hashes."""
    lines = [line for line in told if "SHA-256" in line]
    assert all(WENT_ON in line and "--overwrite converts it anew" in line for line in lines)
    assert len(lines) <= 1
    return lines[0].split(":")[0].split(", ") if lines else []


def test_a_run_without_interruption_has_nothing_to_tell(folder: Path, tmp_path: Path) -> None:
    source = FakeRepository(folder, tmp_path / "here").location()
    assert unchecked(convert(source, tmp_path / "out", "Q8_0,F16")) == []


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        ((5,), FILES[:1]),
        ((18,), FILES[1:2]),  # the first file passed whole, and that is not forgotten
        ((18, 22), FILES[1:2]),
        ((18, 32), FILES[1:]),
        ((5, 18, 32), FILES),
    ],
)
def test_the_files_at_work_when_a_run_ended_are_named(
    stops: tuple[int, ...], expected: list[str], folder: Path, tmp_path: Path
) -> None:
    source = FakeRepository(folder, tmp_path / "here").location()
    for n_tensors in stops:
        killed(source, tmp_path / "out", n_tensors)
    assert unchecked(convert(source, tmp_path / "out")) == expected


def test_wrong_bytes_before_the_end_of_a_run_do_not_go_untold(folder: Path, tmp_path: Path) -> None:
    """They cannot be found any more; the GGUF names the source's hash, which is the Hub's."""
    repository = FakeRepository(folder, tmp_path / "here")
    name = FILES[0].split("/")[-1]
    repository.wrong_byte = (name, 100_001)  # an exponent
    killed(repository.location(), tmp_path / "out", 5)
    repository.wrong_byte = None
    assert unchecked(convert(repository.location(), tmp_path / "out")) == FILES[:1]
    path = tmp_path / "out" / "whale-Q8_0.gguf"
    hashes = list(read_header(path).metadata["fwlocal.source.sha256"])  # type: ignore[arg-type]
    assert hashes[0] == repository.open(name).sha256
    spoiled = path.read_bytes()
    assert unchecked(convert(repository.location(), tmp_path / "out", overwrite=True)) == []
    assert path.read_bytes() != spoiled


def test_a_level_that_is_added_later_sees_the_files_whole(folder: Path, tmp_path: Path) -> None:
    source = FakeRepository(folder, tmp_path / "here").location()
    killed(source, tmp_path / "out", 5)
    assert unchecked(convert(source, tmp_path / "out", "F16")) == []
    told = convert(source, tmp_path / "out", "Q8_0,BF16")  # of which only the first was begun
    assert unchecked(told) == FILES[:1]


def test_what_passed_whole_but_was_not_all_written_is_forgotten(
    folder: Path, tmp_path: Path
) -> None:
    """Its rest comes again, in a run that sees no more of it."""
    source = FakeRepository(folder, tmp_path / "here").location()
    killed(source, tmp_path / "out", 18)
    journal = tmp_path / "out" / ".whale-Q8_0.gguf.journal"
    lines = journal.read_text("utf-8").splitlines(keepends=True)
    (noted,) = (line for line in lines if FILES[0] in line)
    journal.write_text("".join([*lines[:6], noted]), "utf-8")  # five tensors of the first file
    killed(source, tmp_path / "out", 13)  # all of it
    assert unchecked(convert(source, tmp_path / "out")) == FILES[:1]


def test_a_delta_and_its_base_are_both_named(folder: Path, tmp_path: Path) -> None:
    delta = write_checkpoint(tmp_path / "delta", SHAPE, dtype="BF16", seed=1, shards=3)
    source = FakeRepository(delta, tmp_path / "here", "owner/delta").location()
    base = FakeRepository(folder, tmp_path / "base").location()
    with pytest.raises(Killed):
        convert(source, tmp_path / "out", stop_after=18, base=base)
    told = unchecked(convert(source, tmp_path / "out", base=base))
    assert told == [FILES[1].replace("whale", "delta"), FILES[1]]


def test_the_entries_of_a_zip_are_checked_in_any_run(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", SHAPE, dtype="BF16", layout="bin", shards=2)
    source = FakeRepository(folder, tmp_path / "here").location()
    killed(source, tmp_path / "out", 8)
    killed(source, tmp_path / "out", 28)
    assert unchecked(convert(source, tmp_path / "out")) == []


def test_a_tensor_that_is_a_part_of_its_entry_is_not_checked_by_it(tmp_path: Path) -> None:
    """Its run may have ended before the entry's last byte came."""
    folder = write_checkpoint(tmp_path / "m", SHAPE, layout="bin")
    tensors: dict[str, torch_writer.Array | torch_writer.View] = dict(checkpoint(SHAPE))
    name = "model.layers.0.mlp.up_proj.weight"
    storage = np.concatenate([checkpoint(SHAPE)[name], np.ones((1, 512), np.float32)])
    tensors[name] = torch_writer.View(storage, (1024, 512), (512, 1))
    torch_writer.save(folder / "pytorch_model.bin", tensors)
    source = FakeRepository(folder, tmp_path / "here").location()
    killed(source, tmp_path / "out", 8)
    assert unchecked(convert(source, tmp_path / "out")) == ["owner/whale/pytorch_model.bin"]


def test_a_file_of_which_a_part_is_not_wanted(tmp_path: Path) -> None:
    """No hash can be computed of it, though nothing was interrupted."""
    large = {"a.rotary_emb.inv_freq": np.ones(1 << 20, np.float32)}  # at the end of the file
    folder = write_checkpoint(tmp_path / "m", SHAPE, tensors=large)
    told = convert(FakeRepository(folder, tmp_path / "here").location(), tmp_path / "out")
    assert told[-1].startswith("owner/whale/model.safetensors: not all of it came in one piece")
    assert "--overwrite" not in told[-1]


def test_what_is_read_past_the_stream_is_not_checked(folder: Path, tmp_path: Path) -> None:
    source = FakeRepository(folder, tmp_path / "here").location()
    with closing(prepare(Request(source, (LEVELS["Q8_0"],), tmp_path / "out"))) as job:
        read_again(job.model.source.read_rows, job.model.source.expect)
        files = [file for file in job.model.source.files if file.path.as_posix() == FILES[0]]
    assert [file.was_read_aside for file in files] == [True]  # type: ignore[attr-defined]


def read_again(read_rows: Callable[..., object], expect: Callable[..., object]) -> None:
    """A tensor, once as it comes and once more."""
    name = "model.layers.0.mlp.up_proj.weight"
    expect([name])
    for _ in range(2):
        read_rows(name, 0, 1024)


def test_what_is_on_this_disk_is_not_followed(folder: Path, tmp_path: Path) -> None:
    with closing(prepare(Request(Location(folder), (LEVELS["Q8_0"],), tmp_path))) as job:
        assert Checked(job.model, ()).lines() == []
    assert unchecked(convert(Location(folder), tmp_path / "out")) == []
