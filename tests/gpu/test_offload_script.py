"""The script for GPU machines, as far as it goes without one: what it decides, and all steps on a
small model."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal import llama
from fwlocal.errors import BadModelFile, DoesNotFit, FwlocalError, UsageError
from fwlocal.gguf import read_header
from fwlocal.loader import EngineOptions, open_model
from tests.gpu import offload, random_model, report
from tests.gpu.device import GPU, check_device, parse_gpus
from tests.gpu.measure import GREEDY, check_gpu, measure, speeds
from tests.gpu.random_model import SEVENTY_B, ensure_model, plan_tensors, type_counts
from tests.gpu.report import DeviceUse, Measurement, Parts
from tests.tiny_llama import Shape
from tests.workers.loopback import LoopbackWorker

SMALL = Shape(256, 512, 8, 4, 1, max_position_embeddings=1024, vocab_size=512)
MIB, GIB = 2**20, 2**30
USE = DeviceUse("CUDA0", 30, Parts(15 * GIB, GIB, GIB // 2), Parts(15 * GIB + MIB, GIB, GIB // 4))
HOST = DeviceUse("CPU", 51, Parts(24 * GIB, GIB // 4, 0), None)
MEASURED = Measurement(30, 81, 4096, "f16", 210.04, 3.456, (USE, HOST))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 3 MB."""
    path = tmp_path_factory.mktemp("random") / "small.gguf"
    return ensure_model(path, SMALL, lambda line: None)


def no_telling(line: str) -> None:
    pytest.fail(f"nothing was to be done, but {line}")


# --- the device


def test_without_a_gpu_it_ends_with_one_line(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.offload", "--work", str(tmp_path / "work")],
        cwd=root,
        env={**os.environ, "PATH": ""},  # where there is a GPU, too
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "offload: nvidia-smi is missing, so there is no NVIDIA driver here; run this on a machine "
        "with an NVIDIA GPU\n"
    )
    assert not (tmp_path / "work").exists()


def test_what_nvidia_smi_says() -> None:
    text = "NVIDIA H100 80GB HBM3, 81559 MiB, 81008 MiB\nNVIDIA GB10, [N/A], [N/A]\n"
    assert parse_gpus(text) == (
        GPU("NVIDIA H100 80GB HBM3", 81559 * MIB, 81008 * MIB),
        GPU("NVIDIA GB10", None, None),
    )
    assert parse_gpus("No devices were found\n") == ()


NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)


@given(st.lists(st.tuples(NAMES, st.integers(0, 2**20), st.integers(0, 2**20))))
def test_every_gpu_is_found_whatever_its_name(gpus: list[tuple[str, int, int]]) -> None:
    text = "".join(f"{name}, {total} MiB, {free} MiB\n" for name, total, free in gpus)
    expected = [GPU(name, total * MIB, free * MIB) for name, total, free in gpus]
    assert list(parse_gpus(text)) == expected


def test_a_driver_without_gpus_is_no_device() -> None:
    with pytest.raises(FwlocalError, match="sees no GPU"):
        check_device(lambda: "No devices were found\n")
    (found,) = check_device(lambda: "A, 2 MiB, 1 MiB\n")
    assert found == GPU("A", 2 * MIB, MIB)


# --- the random model


def test_the_large_one_has_the_tensors_of_a_70b() -> None:
    tensors = plan_tensors(SEVENTY_B)
    # As llama.cpp counts them when it loads Llama 2 70B at this level.
    assert type_counts(tensors) == {"F32": 161, "Q4_K": 441, "Q5_K": 40, "Q6_K": 81}
    assert 41.4e9 < sum(tensor.size_bytes for tensor in tensors) < 41.5e9


def test_a_small_one_is_q4_k_m_and_small(small: Path) -> None:
    header = read_header(small)
    types = {tensor.name: tensor.type_name for tensor in header.tensors}
    assert small.stat().st_size < 20_000_000
    assert header.number("general.file_type") == 15
    assert header.number("{arch}.block_count") == 8
    assert types["token_embd.weight"] == "Q4_K"
    assert types["output.weight"] == "Q6_K"
    more = [0, 3, 6, 7]  # the ends, and every third layer between
    for kind in ("attn_v", "ffn_down"):
        found = [n for n in range(8) if types[f"blk.{n}.{kind}.weight"] == "Q6_K"]
        assert found == more, kind
    for kind in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"):
        assert {types[f"blk.{n}.{kind}.weight"] for n in range(8)} == {"Q4_K"}


def test_weights_are_normal_and_special_tokens_never_answered(small: Path) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(small).tensors}
    output = tensors["output.weight"]
    rows = gguf.dequantize(output.data, output.tensor_type)
    assert not rows[:3].any()
    assert rows[3:64].std() == pytest.approx(0.02, rel=0.02)
    assert (rows[64:128] == rows[:64]).all()
    assert (tensors["blk.7.ffn_norm.weight"].data == 1).all()


def test_a_whole_model_is_used_again_and_any_other_written_anew(
    small: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copyfile(small, path)
    ensure_model(path, SMALL, lambda line: None if "is there" in line else no_telling(line))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)
    told: list[str] = []
    ensure_model(path, SMALL, told.append)
    assert told
    assert path.read_bytes() == small.read_bytes()
    ensure_model(path, replace(SMALL, max_position_embeddings=2048), told.append)
    assert read_header(path).number("{arch}.context_length") == 2048
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]


def test_a_disk_that_is_too_small_is_named(tmp_path: Path) -> None:
    with pytest.raises(DoesNotFit, match=r"needs 1000001\.1 GB"):
        random_model.check_disk(tmp_path, 10**15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 100}, "hidden_size is 100"),
        ({"num_attention_heads": 7}, "7 heads"),
        ({"vocab_size": 10}, "vocab_size is 10"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        ensure_model(tmp_path / "m.gguf", replace(SMALL, **change), no_telling)  # type: ignore[arg-type]
    with pytest.raises(BadModelFile):
        read_header(tmp_path / "m.gguf")


# --- the table


def test_a_measurement_crosses_processes() -> None:
    line = MEASURED.to_json()
    assert "\n" not in line
    assert Measurement.from_json(line) == MEASURED


def test_the_table_has_a_line_for_each_device() -> None:
    lines = [*report.heading().splitlines(), *report.rows(16 * GIB, MEASURED)]
    assert lines[2:] == [
        "| 16 GiB | 30 of 81 | f16 | CUDA0 (30 layers) | 15.000 / 15.001 | 1.000 / 1.000 "
        "| 0.500 / 0.250 | 16.500 / 16.251 | 210.0 | 3.46 |",
        "|  |  |  | CPU (51 layers) | 24.000 / ? | 0.250 / ? | 0.000 / ? | 24.250 / ? |  |  |",
    ]
    lines.append(report.failed_row(None, "out|of memory"))
    assert lines[-1].startswith("| all | out¦of memory |")
    assert len({line.count("|") for line in lines}) == 1


def test_the_caption_names_device_memory_and_day(small: Path) -> None:
    day = datetime.date(2024, 5, 17)
    line = offload.caption(GPU("NVIDIA X", 24 * GIB, 0), small, SMALL, 3, day)
    assert line.startswith("NVIDIA X, 24.0 GiB, 2024-05-17: Q4_K_M of random weights, ")
    assert "memory not told" in offload.caption(GPU("X", None, None), small, SMALL, 3, day)


# --- the options


def test_budgets_are_gib_or_all() -> None:
    assert offload.budgets("16, 24.5,all") == (16 * GIB, 24 * GIB + GIB // 2, None)
    for wrong in ("0", "-1", "many", "nan", "inf", ""):
        with pytest.raises(ValueError, match=re.escape(repr(wrong))):
            offload.budget(wrong)


def test_the_default_is_the_large_model_and_shapes_lie_apart() -> None:
    default = offload.parser().parse_args([])
    assert offload.shape_of(default) == SEVENTY_B
    assert default.budgets == (16 * GIB, 24 * GIB, 40 * GIB, None)
    less = offload.parser().parse_args(["--layers", "4"])
    assert offload.shape_of(less) == replace(SEVENTY_B, num_hidden_layers=4)
    assert offload.model_path(less) != offload.model_path(default)


def test_the_measuring_process_uses_its_own_libraries_and_store_and_the_first_gpu() -> None:
    lib, work = Path("lib"), Path("work")
    environment = offload.child_environment(lib, work, {"HOME": "/h", "LLAMA_CPP_LIB_PATH": "x"})
    assert environment["LLAMA_CPP_LIB_PATH"] == "lib"
    assert environment["FWLOCAL_HOME"] == str(work / "home")
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    chosen = offload.child_environment(lib, work, {"CUDA_VISIBLE_DEVICES": "1"})
    assert chosen["CUDA_VISIBLE_DEVICES"] == "1"


# --- the measuring


def test_the_small_model_is_measured_on_a_worker(small: Path, home: Path) -> None:
    """As on a GPU: its devices are planned, audited and computed on in the same way."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # the worker's device alone
    with LoopbackWorker() as worker:
        command = offload.measure_command(small, 8 * GIB, 1, 1024)
        found = offload.measured(
            (*command, "--worker", worker.address, "--threads", "1"), environment
        )
    assert (found.n_gpu_layers, found.n_layers, found.n_ctx) == (9, 9, 1024)
    assert [use.device for use in found.devices] == ["RPC0", "CPU"]
    assert [use.n_layers for use in found.devices] == [9, 0]
    for use in found.devices:
        assert use.actual is not None
        assert use.actual.weights == pytest.approx(use.predicted.weights, abs=MIB // 64)
        assert use.actual.kv == use.predicted.kv
        assert use.actual.compute == pytest.approx(use.predicted.compute, abs=MIB // 64)
    n_kv = 8 * 1024 * 2 * 64  # layers, tokens, keys and values, elements of a head
    assert found.devices[0].predicted.kv == 2 * n_kv  # f16
    assert min(found.prefill_tps, found.decode_tps) > 0


def test_on_the_cpu_alone_nothing_is_audited(small: Path, home: Path) -> None:
    found = measure(small, EngineOptions(n_ctx=1024, n_threads=1, n_gpu_layers=0, raw=True), 1)
    assert (found.n_gpu_layers, found.devices[-1].device) == (0, "CPU")
    assert found.devices[-1].actual is None
    assert found.devices[-1].predicted.weights > 0


def test_greedy_answers_of_random_models_do_not_end(small: Path, home: Path) -> None:
    options = EngineOptions(n_ctx=1024, n_threads=1, n_gpu_layers=0, raw=True)
    with open_model(str(small), options).engine as engine:
        generation = engine.generate([300], sampling=GREEDY, max_tokens=500)
        list(generation)
        assert generation.result.finish_reason == "length"
        with pytest.raises(FwlocalError, match=r"ended after \d+ tokens"):
            speeds(engine, 1, n_prefill=1000, n_decode=100)


def test_what_cannot_be_measured_is_one_line(
    tmp_path: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = offload.measure_command(tmp_path / "no.gguf", None, 1, 0)
    with pytest.raises(FwlocalError, match="left with 1"):
        offload.measured((*command, "--worker", "127.0.0.1"), os.environ)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("measure: ")
    assert "no.gguf" in line


@pytest.mark.skipif(
    any(device.kind in ("GPU", "IGPU") for device in llama.devices()), reason="there is a GPU"
)
def test_the_cpu_is_not_measured_in_a_gpus_place() -> None:
    with pytest.raises(FwlocalError, match="sees no GPU"):
        check_gpu()


def test_a_failing_process_is_an_error() -> None:
    with pytest.raises(FwlocalError, match="left with 3"):
        offload.measured([sys.executable, "-c", "raise SystemExit(3)"], os.environ)
    line = MEASURED.to_json()
    found = offload.measured([sys.executable, "-c", f"print({line!r})"], os.environ)
    assert found == MEASURED
