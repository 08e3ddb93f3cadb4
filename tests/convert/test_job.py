"""Whole conversions, byte for byte against ``llama_model_quantize`` of the installed library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from convert.job import Request, prepare
from convert.metadata import Known
from convert.recipes import LEVELS
from convert.run import Outcome, run_job
from convert.sources.checkpoint import locate
from convert.verify import verify
from convert.writer import UNKNOWN
from fwlocal.errors import BadCheckpoint, DoesNotFit, UsageError
from fwlocal.gguf import read_header
from tests.convert import llama_quant
from tests.convert.checkpoints import config_of, write_checkpoint, write_hollow
from tests.convert.reference import tensor_bytes, write_imatrix, write_unquantized
from tests.tiny_llama import Shape, checkpoint

PLAIN = tuple(
    name for name in LEVELS if not name.startswith("IQ2") and name not in ("IQ3_XXS", "IQ3_XS")
)
NEEDY = tuple(name for name in LEVELS if name not in PLAIN)
WIDE = Shape(256, 256, 2, 4, 2, vocab_size=512)  # grouped-query attention, K-quants fit
SHAPES = {
    "gqa-f32-safetensors": (WIDE, "F32", "safetensors"),
    "gqa-bf16-bin": (WIDE, "BF16", "bin"),
    "mha-f16-safetensors": (Shape(256, 512, 2, 4, 4, vocab_size=512), "F16", "safetensors"),
    "gqa4-tied-f32-bin": (
        Shape(512, 256, 2, 8, 2, vocab_size=512, tie_word_embeddings=True),
        "F32",
        "bin",
    ),
    "odd-bf16-safetensors": (Shape(96, 160, 2, 3, 1, vocab_size=512), "BF16", "safetensors"),
    "biased-f16-bin": (
        Shape(256, 256, 2, 4, 2, vocab_size=512, attention_bias=True, mlp_bias=True, head_dim=32),
        "F16",
        "bin",
    ),
}


def convert(source: Path, levels: tuple[str, ...], out: Path, **rest: Any) -> Outcome:
    """What the command line does."""
    chosen = tuple(LEVELS[name] for name in levels)
    job = prepare(Request(locate(str(source)), chosen, out, name="m", n_threads=2, **rest))
    try:
        return run_job(job)
    finally:
        job.close()


@pytest.mark.parametrize("case", SHAPES)
def test_every_level_is_byte_identical_to_llama_quantize(case: str, tmp_path: Path) -> None:
    shape, dtype, layout = SHAPES[case]
    source = write_checkpoint(tmp_path / "m", shape, dtype=dtype, layout=layout, shards=2)
    unquantized = write_unquantized(tmp_path / "unquantized.gguf", shape, dtype)
    convert(source, PLAIN, tmp_path / "out")
    for level in PLAIN:
        llama_quant.quantize(unquantized, tmp_path / "theirs.gguf", level)
        theirs = tensor_bytes(tmp_path / "theirs.gguf")
        ours = tensor_bytes(tmp_path / "out" / f"m-{level}.gguf")
        assert list(ours.items()) == list(theirs.items()), level  # in the same order, too


@pytest.mark.parametrize("level", [*NEEDY, "Q4_0", "Q5_0", "Q4_K_M", "IQ4_NL", "IQ4_XS"])
def test_levels_with_an_importance_matrix_are_byte_identical(
    level: str, imatrix: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    unquantized = write_unquantized(tmp_path / "unquantized.gguf", WIDE, "F32")
    path, arrays = imatrix
    convert(source, (level,), tmp_path, imatrix=path)
    llama_quant.quantize(unquantized, tmp_path / "theirs.gguf", level, imatrix=arrays)
    assert tensor_bytes(tmp_path / f"m-{level}.gguf") == tensor_bytes(tmp_path / "theirs.gguf")


@pytest.fixture(scope="module")
def imatrix(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A random importance matrix of WIDE, as a file and as arrays."""
    path = tmp_path_factory.mktemp("imatrix") / "imatrix.gguf"
    return path, write_imatrix(path, WIDE)


def test_a_level_that_needs_an_importance_matrix_says_so(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    with pytest.raises(UsageError, match=r"IQ2_XS needs an importance matrix .*--imatrix FILE"):
        convert(source, ("IQ2_XS",), tmp_path)


def test_keys_say_where_the_file_came_from(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "MyLlama", WIDE, shards=2)
    convert(source, ("Q8_0",), tmp_path)
    header = read_header(tmp_path / "m-Q8_0.gguf")
    assert header.text("fwlocal.source") == "MyLlama"
    assert header.text("general.name") == "m"
    assert header.number("general.file_type") == 7
    assert header.number("general.quantization_version") == 2
    assert len(list(header.metadata["fwlocal.source.sha256"])) == 2  # type: ignore[arg-type]
    assert UNKNOWN not in list(header.metadata["fwlocal.tensor.sha256"])  # type: ignore[arg-type]
    verdict = verify(header.path)
    assert verdict.n_hashed == verdict.n_tensors == len(header.tensors)
    assert not verdict.damaged


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_base_and_delta_give_what_the_merged_checkpoint_gives(
    dtype: str, imatrix: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Base and sum are multiples of 1/64: their difference is exact in every dtype."""
    merged, base = (
        {name: coarse(tensor) for name, tensor in checkpoint(WIDE, seed).items()} for seed in (1, 2)
    )
    delta = {name: merged[name] - base[name] for name in merged}
    folders = {
        name: write_checkpoint(tmp_path / name, WIDE, dtype=dtype, tensors=tensors, shards=shards)
        for name, tensors, shards in (("merged", merged, 1), ("base", base, 2), ("delta", delta, 3))
    }
    levels = tuple(LEVELS) if dtype == "F16" else PLAIN  # FreeWilly1's is F16
    matrix = imatrix[0] if dtype == "F16" else None
    convert(folders["merged"], levels, tmp_path / "a", imatrix=matrix)
    convert(folders["delta"], levels, tmp_path / "b", base=str(folders["base"]), imatrix=matrix)
    for level in levels:
        a, b = (tensor_bytes(tmp_path / side / f"m-{level}.gguf") for side in "ab")
        assert a == b, level


def coarse(tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Multiples of 1/64 from -1 to 1, without -0."""
    return (np.clip(np.round(tensor * 8) / 64, -1, 1) + 0).astype(np.float32)


def test_a_known_delta_is_refused_without_its_base(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "delta", WIDE)
    known = Known(is_delta=True, base_repo="huggyllama/llama-65b")
    with pytest.raises(UsageError, match=r"a delta, .*--base \(huggyllama/llama-65b\)"):
        convert(source, ("Q8_0",), tmp_path, known=known)


def test_a_gguf_gives_the_levels_that_its_checkpoint_gives(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE, dtype="BF16")
    convert(source, ("BF16", "Q4_K_M", "Q8_0"), tmp_path / "a")
    convert(tmp_path / "a" / "m-BF16.gguf", ("Q4_K_M",), tmp_path / "b")
    assert tensor_bytes(tmp_path / "b" / "m-Q4_K_M.gguf") == tensor_bytes(
        tmp_path / "a" / "m-Q4_K_M.gguf"
    )
    with pytest.raises(UsageError, match=r"quantized already \(Q8_0\).*--allow-requantize"):
        convert(tmp_path / "a" / "m-Q8_0.gguf", ("Q4_K_M",), tmp_path / "c")
    convert(tmp_path / "a" / "m-Q8_0.gguf", ("Q4_K_M",), tmp_path / "c", allow_requantize=True)
    assert verify(tmp_path / "c" / "m-Q4_K_M.gguf").n_hashed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad: float, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    damaged = checkpoint(WIDE)[name]
    damaged[3, 5] = bad
    source = write_checkpoint(tmp_path / "m", WIDE, tensors={name: damaged})
    with pytest.raises(BadCheckpoint, match=rf"model\.safetensors: {name} holds NaN or Inf"):
        convert(source, ("Q4_K_M", "F16"), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.gguf"))
    convert(source, ("Q4_K_M", "F32"), tmp_path / "out", allow_nan=True)
    kept = tensor_bytes(tmp_path / "out" / "m-F32.gguf")["blk.1.ffn_up.weight"][1]
    assert np.array_equal(np.frombuffer(kept, np.float32), damaged.reshape(-1), equal_nan=True)
    assert not verify(tmp_path / "out" / "m-Q4_K_M.gguf").damaged


def test_values_that_a_level_cannot_hold_are_named(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    source = write_checkpoint(
        tmp_path / "m", WIDE, tensors={name: checkpoint(WIDE)[name] * np.float32(1e30)}
    )
    with pytest.raises(BadCheckpoint, match=rf"{name} holds values too large for Q8_0; use F32"):
        convert(source, ("Q8_0",), tmp_path)


@pytest.mark.parametrize("level", ["IQ3_S", "IQ4_XS", "Q4_K_M", "Q8_0"])
@pytest.mark.parametrize("value", [1e15, 1e25, 3e38])
def test_values_at_which_kernels_abort_are_refused(
    value: float, level: str, tmp_path: Path
) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    damaged = checkpoint(WIDE)[name]
    damaged[7, 9] = value
    source = write_checkpoint(tmp_path / "m", WIDE, tensors={name: damaged})
    with pytest.raises(BadCheckpoint, match=rf"{name} holds values too large for"):
        convert(source, (level,), tmp_path)


def test_what_a_file_depends_on_beside_its_source_is_not_forgotten(tmp_path: Path) -> None:
    """Rope factors, which are in no key, and whether NaN was allowed."""
    rope = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 256
    eight, more = ({"rope_scaling": {**rope, "factor": factor}} for factor in (8.0, 32.0))
    source = write_checkpoint(tmp_path / "m", WIDE, config=eight)
    convert(source, ("Q8_0",), tmp_path)
    assert convert(source, ("Q8_0",), tmp_path).present
    with pytest.raises(UsageError, match="is not what this would write"):
        convert(source, ("Q8_0",), tmp_path, allow_nan=True)
    write_checkpoint(source, WIDE, config=more)
    with pytest.raises(UsageError, match="is not what this would write"):
        convert(source, ("Q8_0",), tmp_path)


def test_a_folder_is_the_same_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_checkpoint(tmp_path / "Llama-3-8B-Instruct", WIDE)
    convert(source, ("Q8_0",), tmp_path / "a")
    monkeypatch.chdir(source)
    convert(Path("."), ("Q8_0",), tmp_path / "b")
    (tmp_path / "link").symlink_to(source)
    convert(tmp_path / "link", ("Q8_0",), tmp_path / "c")
    assert len({(tmp_path / side / "m-Q8_0.gguf").read_bytes() for side in "abc"}) == 1


def test_byte_order_marks_are_forgiven_everywhere(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    (source / "generation_config.json").write_text('{"temperature": 0.5}')
    (source / "README.md").write_text("---\nlicense: mit\n---\nA whale.\n")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "README.md"):
        (source / name).write_bytes(b"\xef\xbb\xbf" + (source / name).read_bytes())
    convert(source, ("Q8_0",), tmp_path)
    header = read_header(tmp_path / "m-Q8_0.gguf")
    assert header.text("general.license") == "mit"
    assert header.metadata["general.sampling.temp"] == 0.5


def test_a_model_card_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    (source / "README.md").write_text("---\n{ : [\n---\n")
    with pytest.raises(BadCheckpoint, match=r"README\.md: the front matter.* cannot be understood"):
        convert(source, ("Q8_0",), tmp_path)


def test_what_was_made_from_a_gguf_tells_of_the_checkpoint(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "whale", WIDE)
    convert(source, ("F16",), tmp_path, known=Known(model="freewilly2"))
    convert(tmp_path / "m-F16.gguf", ("Q8_0",), tmp_path / "b")
    header = read_header(tmp_path / "b" / "m-Q8_0.gguf")
    assert header.text("fwlocal.model") == "freewilly2"
    assert header.text("fwlocal.source") == "m-F16"
    assert header.text("fwlocal.origin") == "whale"


def test_a_delta_is_not_its_own_base(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    with pytest.raises(UsageError, match="is the delta itself"):
        convert(source, ("Q8_0",), tmp_path, base=str(source))


@pytest.mark.parametrize("name", ["../escape", "a/b", "a\\b", "line\nfeed", ".hidden", "c:d"])
def test_names_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    job = Request(locate(str(source)), (LEVELS["Q8_0"],), tmp_path / "out", name=name)
    with pytest.raises(UsageError, match="is no name for files; choose one with --name"):
        prepare(job)


def test_a_damaged_zip_entry_is_named(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE, layout="bin")
    weights = source / "pytorch_model.bin"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1  # still a finite number
    weights.write_bytes(data)
    with pytest.raises(BadCheckpoint, match=r"pytorch_model\.bin: archive/data/\d+ is damaged"):
        convert(source, ("Q8_0",), tmp_path)
    assert not list(tmp_path.glob("*.gguf"))


def test_split_files_hold_the_same_tensors(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    convert(source, ("Q8_0",), tmp_path / "whole")
    convert(source, ("Q8_0",), tmp_path / "split", split_bytes=300_000)
    parts = sorted((tmp_path / "split").glob("*.gguf"))
    assert len(parts) > 3
    assert parts[0].name == f"m-Q8_0-00001-of-{len(parts):05d}.gguf"
    assert all(part.stat().st_size < 310_000 for part in parts[1:])
    joined = [item for part in parts for item in tensor_bytes(part).items()]
    assert joined == list(tensor_bytes(tmp_path / "whole" / "m-Q8_0.gguf").items())
    headers = [read_header(part) for part in parts]
    assert [header.number("split.no") for header in headers] == list(range(len(parts)))
    assert {header.number("split.tensors.count") for header in headers} == {len(joined)}


def test_a_target_that_is_the_source_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", WIDE)
    convert(source, ("F32",), tmp_path)
    before = (tmp_path / "m-F32.gguf").read_bytes()
    with pytest.raises(UsageError, match="is the source itself"):
        convert(tmp_path / "m-F32.gguf", ("F32",), tmp_path, overwrite=True)
    assert (tmp_path / "m-F32.gguf").read_bytes() == before


def test_more_than_the_disk_holds_is_refused_before_the_start(tmp_path: Path) -> None:
    huge = Shape(1 << 16, 1 << 22, 1, 2, 1, vocab_size=512)  # 1.6 TB in BF16, all of it a hole
    source = write_checkpoint(tmp_path / "m", config=config_of(huge, "BF16"))
    write_hollow(source / "model.safetensors", huge)
    with pytest.raises(DoesNotFit, match=r"out: \d+\.\d\d GB needed, [\d.]+ GB free; make room"):
        convert(source, ("F32", "Q8_0"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
