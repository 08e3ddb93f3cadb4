"""``fwlocal bench``: which levels take part, and how those that are missing are made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from fwlocal.cli.bench_levels import Asked, Entered, enter
from fwlocal.errors import BadCheckpoint, BadModelFile, ModelNotFound, UsageError
from fwlocal.gguf import read_header
from fwlocal.levels import LADDER
from fwlocal.library import Library
from fwlocal.store.manifest import manifest_path, read_manifest
from tests.conftest import TEMPLATE
from tests.convert.checkpoints import write_checkpoint
from tests.hub_server import HubServer, client_environment
from tests.tiny_llama import Shape, write_gguf

SHAPE = Shape(256, 256, 1, 4, 2)  # rows that any block fills
SHAPE_OF_HUB = Shape(256, 256, 1, 4, 2, vocab_size=512)

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def whale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in F32, whose name tells no level."""
    return write_gguf(tmp_path_factory.mktemp("whale") / "whale.gguf", SHAPE, template=TEMPLATE)


def matrix(path: Path, model: Path, seed: int = 0) -> Path:
    """An importance matrix of the model, in llama.cpp's form."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["moby-dick.txt"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for tensor in read_header(model).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            sums = random.random((1, tensor.shape[0]), dtype=np.float32)
            writer.add_tensor(f"{tensor.name}.in_sum2", sums)
            writer.add_tensor(f"{tensor.name}.counts", np.full((1, 1), 512, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def entered(model: object, *levels: str, **wishes: object) -> Entered:
    asked = Asked(str(model), levels, n_threads=1, **wishes)  # type: ignore[arg-type]
    return enter(asked, Library.default())


def labels(found: Entered) -> list[str]:
    return [entrant.label for entrant in found.entrants]


def path_of(found: Entered, label: str) -> Path:
    return next(entrant.file.path for entrant in found.entrants if entrant.label == label)


# Files


def test_files_take_part_as_they_are(whale: Path, tmp_path: Path) -> None:
    found = entered(whale, "Q8_0,Q4_0")
    copy = tmp_path / "plankton-Q2_K.gguf"
    shutil.copy(path_of(found, "Q4_0"), copy)
    files = (copy, path_of(found, "Q8_0"))
    again = enter(Asked("none", files=files), Library.default())
    assert labels(again) == ["Q8_0", "Q2_K"]
    assert again.model == "plankton-Q2_K, whale"
    assert again.reference.label == "Q8_0"
    against = enter(Asked("", files=files, reference=str(whale)), Library.default())
    assert against.reference.file.path == whale
    assert len(against.entrants) == 3


def test_a_damaged_file_does_not_end_it(whale: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad-Q4_0.gguf"
    bad.write_bytes(b"GGUF")
    found = enter(Asked("", files=(whale, bad)), Library.default())
    assert list(found.problems) == ["Q4_0"]
    assert len(found.entrants) == 1
    with pytest.raises(BadModelFile, match=r"bad-Q4_0\.gguf"):
        enter(Asked("", files=(bad,)), Library.default())


@pytest.mark.parametrize("other", [{"levels": ("Q8_0",)}, {"imatrix": Path("m.gguf")}])
def test_files_have_no_levels_to_make(whale: Path, other: dict[str, object]) -> None:
    asked = Asked("", files=(whale,), **other)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is for a model"):
        enter(asked, Library.default())


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        enter(Asked("", files=(tmp_path / "none.gguf",)), Library.default())


# A GGUF elsewhere


def test_levels_are_made_of_an_unquantized_file(
    whale: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = entered(whale, "q4_k_m", "Q8_0")
    assert labels(found) == ["Q8_0", "Q4_K_M"]
    assert found.model == "whale"
    assert not any(entrant.is_derived for entrant in found.entrants)
    path = home / "whale" / "whale-Q4_K_M.gguf"
    assert path_of(found, "Q4_K_M") == path
    manifest = read_manifest(manifest_path(home / "whale", "whale-Q4_K_M"))
    assert manifest is not None
    assert manifest.source == str(whale.resolve())
    told = capsys.readouterr()
    assert "converting whale.gguf to Q4_K_M (" in told.err
    assert told.err.count("stays in the models folder; `fwlocal rm whale:Q4_K_M`") == 1
    assert told.out == ""


def test_what_was_made_stays(whale: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = path_of(entered(whale, "Q8_0"), "Q8_0").stat()
    capsys.readouterr()
    after = path_of(entered(whale, "Q8_0"), "Q8_0").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "converting" not in capsys.readouterr().err


def test_a_level_alone_is_told_what_it_could_be_held_against(
    whale: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entered(whale, "Q8_0", "Q4_0")
    capsys.readouterr()
    enter(Asked("whale:Q4_0"), Library.default())
    assert "Q4_0 alone is its own reference; --reference Q8_0" in capsys.readouterr().err
    enter(Asked("whale:Q4_0", reference="Q8_0"), Library.default())
    enter(Asked("whale:Q8_0"), Library.default())
    assert "alone" not in capsys.readouterr().err


def test_another_file_in_its_place_is_converted_anew(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, SHAPE, seed=1)
    before = path_of(entered(path, "Q8_0"), "Q8_0").read_bytes()
    write_gguf(path, SHAPE, seed=2)
    found = entered(path, "Q8_0")
    assert path_of(found, "Q8_0").read_bytes() != before


def test_namesakes_have_folders_of_their_own(tmp_path: Path) -> None:
    paths = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        model = write_gguf(tmp_path / str(seed) / "model.gguf", SHAPE, seed=seed)
        paths.append(path_of(entered(model, "Q8_0"), "Q8_0"))
    assert paths[0].parent.name == "model"
    assert paths[1].parent.name.startswith("model-")


def test_without_levels_there_is_a_ladder(whale: Path) -> None:
    found = entered(whale)
    assert labels(found) == ["whale", *LADDER]
    assert found.reference.file.path == whale


def test_the_level_of_a_file_is_the_file(tmp_path: Path, whale: Path) -> None:
    path = tmp_path / "fish-F32.gguf"
    shutil.copy(whale, path)
    found = entered(path, "fp32,Q8_0")
    assert path_of(found, "F32") == path
    assert found.model == "fish"


# A model of the models folder


def stored(whale: Path, *levels: str) -> None:
    """These levels of a model called whale, and nothing else of it."""
    entered(whale, *levels)


def test_without_levels_all_that_are_here(whale: Path) -> None:
    stored(whale, "Q8_0,Q4_0,Q2_K")
    assert labels(entered("whale")) == ["Q8_0", "Q4_0", "Q2_K"]
    assert labels(entered("WHALE:q4_0")) == ["Q4_0"]
    assert labels(entered("whale:Q4_0,Q2_K", reference="Q8_0")) == ["Q8_0", "Q4_0", "Q2_K"]


def test_one_level_gets_a_ladder(whale: Path) -> None:
    stored(whale, "F16")
    found = entered("whale")
    assert labels(found) == ["F16", *LADDER]
    assert found.reference.label == "F16"
    assert not any(entrant.is_derived for entrant in found.entrants)


def test_missing_levels_come_from_the_unquantized_one(whale: Path) -> None:
    stored(whale, "Q8_0,BF16")
    found = entered("whale", "Q4_K_M")
    header = read_header(path_of(found, "Q4_K_M"))
    assert header.text("fwlocal.source") == "whale-BF16"
    assert labels(found) == ["Q4_K_M"]


def test_only_quantized_ones_are_requantized(
    whale: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(whale, "Q4_0,Q5_0")
    for _ in range(2):  # a second run knows it from the files
        found = entered("whale", "Q8_0,Q5_0,Q2_K")
        assert [e.label for e in found.entrants if e.is_derived] == ["Q8_0", "Q2_K"]
        assert found.reference.label == "Q5_0"
    told = capsys.readouterr().err
    assert told.count("quantized already") == 1
    header = read_header(path_of(entered("whale", "Q3_K_M"), "Q3_K_M"))
    assert header.text("fwlocal.source") == "whale-Q5_0"  # and not the larger Q8_0, made of it


def test_the_reference_is_made_too(whale: Path) -> None:
    stored(whale, "F16")
    found = entered("whale", "Q4_0", reference="q8_0")
    assert labels(found) == ["Q8_0", "Q4_0"]
    assert found.reference.label == "Q8_0"
    assert entered("whale", "Q4_0", reference=str(whale)).reference.file.path == whale


@pytest.mark.parametrize(
    ("model", "levels", "error", "says"),
    [
        ("whale", "Q4_K_N", UsageError, "did you mean Q4_K_S"),
        ("whale", "Q9", UsageError, "known: Q2_K"),
        ("whale", "IQ2_XS", UsageError, "IQ2_XS needs .*`fwlocal imatrix -m whale`"),
        ("whale", "Q8_0+imatrix", UsageError, r"Q8_0\+imatrix needs an importance matrix"),
        ("whale:F16", "Q8_0", UsageError, "names a level, and --levels another"),
        ("wale", "Q8_0", ModelNotFound, "did you mean whale"),
        ("owner.gguf", "Q8_0", ModelNotFound, "no such file"),
    ],
)
def test_what_cannot_be(
    whale: Path, model: str, levels: str, error: type[Exception], says: str
) -> None:
    stored(whale, "F16")
    with pytest.raises(error, match=says) as refusal:
        entered(model, levels)
    assert "\n" not in str(refusal.value)


def test_another_architecture_is_measured_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "odd.gguf", SHAPE)
    data = path.read_bytes().replace(b"llama", b"lamma")
    path.write_bytes(data)
    assert labels(entered(path)) == ["odd"]
    assert "only what is on this disk takes part" in capsys.readouterr().err
    with pytest.raises(BadCheckpoint, match="not supported"):
        entered(path, "Q8_0")


# By an importance matrix


def test_each_level_once_more_by_a_matrix(whale: Path, tmp_path: Path, home: Path) -> None:
    stored(whale, "F16")
    by = matrix(tmp_path / "m.gguf", whale)
    found = entered("whale", "Q8_0,Q4_0,IQ2_XS", imatrix=by)
    assert sorted(labels(found)) == ["IQ2_XS+imatrix", "Q4_0", "Q4_0+imatrix", "Q8_0"]
    path = path_of(found, "Q4_0+imatrix")
    assert path == home / "whale-imatrix" / "whale-imatrix-Q4_0.gguf"
    assert read_header(path).text("quantize.imatrix.file") == "m.gguf"
    assert path.read_bytes()[-1000:] != path_of(found, "Q4_0").read_bytes()[-1000:]
    assert labels(entered("whale", "q4_0+IMATRIX")) == ["Q4_0+imatrix"]  # it is there now


def test_another_matrix_makes_another_level(
    whale: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(whale, "F16")
    one = matrix(tmp_path / "m.gguf", whale, 1)
    before = path_of(entered("whale", "Q4_0+imatrix", imatrix=one), "Q4_0+imatrix").read_bytes()
    capsys.readouterr()
    entered("whale", "Q4_0+imatrix", imatrix=one)
    assert "converting" not in capsys.readouterr().err
    matrix(one, whale, 2)  # by the same name
    again = entered("whale", "Q4_0+imatrix", imatrix=one)
    assert path_of(again, "Q4_0+imatrix").read_bytes() != before


def test_a_users_own_files_are_not_replaced(whale: Path, tmp_path: Path, home: Path) -> None:
    stored(whale, "F16")
    own = home / "whale-imatrix" / "whale-imatrix-Q4_0.gguf"
    own.parent.mkdir()
    shutil.copy(whale, own)
    by = matrix(tmp_path / "m.gguf", whale)
    with pytest.raises(UsageError, match="`fwlocal rm whale-imatrix:Q4_0`"):
        entered("whale", "Q4_0+imatrix", imatrix=by)
    assert own.read_bytes() == whale.read_bytes()


def test_a_damaged_matrix_is_refused_before_anything_is_made(
    whale: Path, tmp_path: Path, home: Path
) -> None:
    stored(whale, "F16")
    by = tmp_path / "m.gguf"
    shutil.copy(whale, by)
    with pytest.raises(BadCheckpoint, match="no sound importance matrix"):
        entered("whale", "Q4_0", imatrix=by)
    other = matrix(tmp_path / "o.gguf", write_gguf(tmp_path / "other.gguf", Shape(64, 64, 1)))
    with pytest.raises(BadCheckpoint, match="of another model"):
        entered("whale", "Q4_0", imatrix=other)
    assert [path.name for path in (home / "whale").glob("*.gguf")] == ["whale-F16.gguf"]


# From the Hub, and from a checkpoint


def test_a_checkpoints_folder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "orca", SHAPE_OF_HUB)
    assert labels(entered(folder, "Q8_0,Q4_K_M")) == ["Q8_0", "Q4_K_M"]
    known = write_checkpoint(tmp_path / "StableBeluga-7B", SHAPE_OF_HUB)
    found = entered(known, "Q8_0")
    assert found.model == "stable-beluga-7b"
    assert found.reference.file.spec is not None


ENTER = (
    "import json, sys\n"
    "from pathlib import Path\n"
    "from fwlocal.cli.bench_levels import Asked, enter\n"
    "from fwlocal.library import Library\n"
    "by = Path(sys.argv[3]) if len(sys.argv) > 3 else None\n"
    "asked = Asked(sys.argv[1], (sys.argv[2],), imatrix=by, n_threads=1, accepted=True)\n"
    "found = enter(asked, Library.default())\n"
    "print(json.dumps({e.label: [str(e.file.path), e.is_derived] for e in found.entrants}))\n"
)


def test_from_the_hub_as_a_pull_would(tmp_path: Path, home: Path) -> None:
    """A published level, one that is converted as it streams in, and one by a matrix."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", SHAPE_OF_HUB)
    small = write_gguf(tmp_path / "small.gguf", SHAPE_OF_HUB)
    by = matrix(tmp_path / "m.gguf", small)
    published = path_of(entered(small, "Q4_0"), "Q4_0").read_bytes()
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    with HubServer() as server:
        ready = {"stablebeluga-7b.Q4_K_M.gguf": published, "LICENSE.txt": b"Do no trade."}
        server.add("TheBloke/StableBeluga-7B-GGUF", ready)
        server.add("stabilityai/StableBeluga-7B", files)
        done = subprocess.run(
            [sys.executable, "-c", ENTER, "stable-beluga-7b", "Q4_K_M,IQ4_XS", str(by)],
            env={**os.environ, **client_environment(server, tmp_path / "hub")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"Q4_K_M", "IQ4_XS", "Q4_K_M+imatrix", "IQ4_XS+imatrix"}
    assert not any(is_derived for _, is_derived in found.values())
    folder = home / "stable-beluga-7b"
    assert Path(found["Q4_K_M"][0]).read_bytes() == published
    assert found["IQ4_XS"][0] == str(folder / "stable-beluga-7b-IQ4_XS.gguf")
    made = read_header(Path(found["IQ4_XS+imatrix"][0]))
    assert made.text("fwlocal.source") == "stabilityai/StableBeluga-7B"
    assert "ready-made" in done.stderr


def test_nobody_asked_for_so_much(home: Path) -> None:
    """Nothing is fetched, and nobody is asked: models.toml says how large it is."""
    with pytest.raises(UsageError, match=r"none of it is on this disk.* GB; name the levels"):
        entered("freewilly1")
    assert not home.exists() or not list(home.iterdir())


@pytest.mark.model
def test_the_embedded_default_is_requantized(real_gguf: Path, home: Path) -> None:
    folder = home / "smollm2-135m"
    folder.mkdir(parents=True)
    shutil.copy(real_gguf, folder / "smollm2-135m-Q4_1.gguf")
    found = entered("smollm2-135m", "Q4_1,Q4_0")
    assert labels(found) == ["Q4_1", "Q4_0"]
    assert [entrant.is_derived for entrant in found.entrants] == [False, True]
    assert found.reference.label == "Q4_1"
