"""The script for GPU machines, as far as it goes without one: what it decides, its tables, and what
it measures, on small models."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.draft.widths import ANY_WIDTHS
from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.forecast.cards import Speed
from tests.gpu import measure_speed, offload, speed
from tests.gpu.device import GPU
from tests.gpu.forced import LoadedPair
from tests.gpu.random_model import SEVEN_B, SEVENTY_B, plan_tensors, type_counts
from tests.gpu.speed_report import ForcedSpeed, Speeds, forced_table, plain_table

GIB = 2**30
H100 = GPU("NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB)
FORCED = ForcedSpeed(0.6, 4, (60.0, 61.0, 59.0), (1.2, 1.1, 1.3), (1.2, 1.25, 1.3), 4.0, 0.61)
FREE = ForcedSpeed(0.4, 0, (50.0,), (1.0,), (1.0,), None, None)
SPEEDS = Speeds((1000.0, 1100.25), (50.0, 52.0, 51.0), (FORCED, FREE))


def arguments(*given: str) -> argparse.Namespace:
    return speed.parser().parse_args(given)


# --- the device


def test_without_a_gpu_it_ends_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.speed", "--work", str(tmp_path / "work")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PATH": ""},  # where there is a GPU, too
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "speed: nvidia-smi is missing, so there is no NVIDIA driver here; run this on a machine "
        "with an NVIDIA GPU\n"
    )
    assert not (tmp_path / "work").exists()


def test_the_gpu_that_is_named_is_the_one_that_is_used() -> None:
    other = GPU("NVIDIA L4", None, None)
    assert speed.chosen([H100, other], None) == H100
    assert speed.chosen([H100, other], "1,0") == other
    for visible in ("2", "", "GPU-8932f937"):
        with pytest.raises(FwlocalError, match="by its number, 0 to 1"):
            speed.chosen([H100, other], visible)


def test_a_gpu_that_is_too_small_is_refused_before_anything_is_written() -> None:
    shapes = speed.shapes_of(arguments())
    speed.check_memory(H100, shapes)
    speed.check_memory(replace(H100, free_bytes=None), shapes)
    with pytest.raises(DoesNotFit, match=r"need 44\.\d GiB and 24\.0 GiB are free"):
        speed.check_memory(replace(H100, free_bytes=24 * GIB), shapes)
    fewer = speed.shapes_of(arguments("--layers", "30"))
    speed.check_memory(replace(H100, free_bytes=24 * GIB), fewer)


# --- the models


def test_the_models_are_those_of_a_70b_and_a_7b() -> None:
    assert speed.shapes_of(arguments()) == (SEVENTY_B, SEVEN_B)
    # As llama.cpp counts them when it loads Llama 2 7B at this level.
    assert type_counts(plan_tensors(SEVEN_B)) == {"F32": 65, "Q4_K": 193, "Q6_K": 33}
    assert 4.07e9 < speed.weights_bytes(SEVEN_B) < 4.09e9


def test_the_large_one_is_shared_with_the_other_script() -> None:
    default = offload.parser().parse_args([])
    assert speed.model_path(default.work, SEVENTY_B) == offload.model_path(default)
    assert speed.model_path(default.work, SEVEN_B) != offload.model_path(default)


def test_the_limit_is_bandwidth_by_the_bytes_of_a_token() -> None:
    read = speed.read_bytes(SEVENTY_B)
    table = 32000 * 8192 * 144 // 256  # Q4_K
    assert read == speed.weights_bytes(SEVENTY_B) - table
    limit = speed.limit_tps(SEVENTY_B, Speed(3350e9, "data sheet"))
    assert limit == pytest.approx(81.2, abs=0.3)
    assert speed.limit_tps(SEVENTY_B, None) is None


# --- the options


def test_the_bandwidth_is_the_data_sheets_unless_given() -> None:
    by_name = speed.bandwidth(H100, arguments())
    assert by_name is not None
    assert by_name.bytes_per_s == 3350e9
    given = speed.bandwidth(H100, arguments("--bandwidth", "3000"))
    assert given == Speed(3000e9, "as given")
    assert speed.bandwidth(GPU("NVIDIA Z1", None, None), arguments()) is None


def test_the_lengths_are_those_that_fill_a_batch_on_a_gpu() -> None:
    assert tuple(n - 1 for n in ANY_WIDTHS) == speed.LENGTHS
    found = arguments()
    assert (found.acceptances, found.lengths) == ((0.4, 0.6, 0.8), (3, 4, 7))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--acceptances", ["1.1", "-0.1", "nan", "", "0.4,often"]),
        ("--lengths", ["0", "8", "3,16", "", "long"]),
        ("--bandwidth", ["0", "-1", "inf", "nan", "fast"]),
        ("--rounds", ["0", "some"]),
        ("--tokens", ["-5"]),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    option: str, values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as left:
            arguments(f"{option}={value}")
        assert left.value.code == 2
        assert f"argument {option}: invalid" in capsys.readouterr().err


# --- the tables


def test_speeds_cross_processes() -> None:
    line = SPEEDS.to_json()
    assert "\n" not in line
    assert Speeds.from_json(line) == SPEEDS


def test_the_plain_table() -> None:
    lines = list(plain_table(SPEEDS, 512, 80.0))
    assert lines[2:] == [
        "| prefill of 512 tokens | 1050.1 (1000.0 to 1100.2) |  |  |",
        "| decode | 51.00 (50.00 to 52.00) | 0.637 (0.625 to 0.650) of 80.0 tok/s | ≥ 46 tok/s |",
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_a_goal_that_is_missed_and_a_limit_that_is_not_known() -> None:
    slow = replace(SPEEDS, decode_tps=(45.9, 45.9, 60.0))
    (*_, line) = plain_table(slow, 512, None)
    assert line == "| decode | 45.90 (45.90 to 60.00) | ? | ≥ 46 tok/s, missed |"


def test_the_forced_table() -> None:
    lines = list(forced_table(SPEEDS.forced))
    assert lines[2:] == [
        "| 0.6 | 4 | 0.61 | 60.00 (59.00 to 61.00) | 1.20 (1.10 to 1.30) | 1.25 | +0% |",
        "| 0.4 | as it decides: nothing |  | 50.00 (50.00 to 50.00) | 1.00 (1.00 to 1.00) | 1.00 "
        "| +0% |",
    ]
    assert len({line.count("|") for line in lines}) == 1
    slower = replace(FORCED, ratios=(0.9, 1.0, 1.1), predicted=(1.0, 1.0, 1.0), mean_drafted=2.44)
    (*_, line) = forced_table([replace(slower, n_drafted=0, ratios=(0.9, 0.9, 0.9))])
    assert "| as it decides: 2.4 |" in line
    assert line.endswith("| 1.00 | -10% |")


def test_the_caption_names_the_device_and_how_its_bandwidth_is_known() -> None:
    shapes, day = (SEVENTY_B, SEVEN_B), "2024-05-17"
    line = speed.caption(H100, shapes, arguments(), day)
    assert line.startswith(
        "NVIDIA H100 80GB HBM3, 80.0 GiB, 3350 GB/s (data sheet of H100 80GB HBM3), 2024-05-17: "
        "Q4_K_M of random weights (41.4 GB, 80 layers), draft (4.1 GB, 32 layers), "
    )
    unknown = speed.caption(GPU("NVIDIA Z1", None, None), shapes, arguments(), day)
    assert unknown.startswith("NVIDIA Z1, memory not told, bandwidth not known")


# --- the measuring


def test_all_settings_are_measured_in_turns(pair: LoadedPair) -> None:
    told: list[str] = []
    found = measure_speed.measure(
        pair, [0.4, 0.8], [3], rounds=2, n_prefill=16, n_tokens=60, tell=told.append
    )
    assert [(one.acceptance, one.n_drafted) for one in found.forced] == [
        (0.4, 3),
        (0.4, 0),
        (0.8, 3),
        (0.8, 0),
    ]
    assert len(found.prefill_tps) == len(found.decode_tps) == 4  # one for each acceptance
    for one in found.forced:
        assert [len(values) for values in (one.tps, one.ratios, one.predicted)] == [2, 2, 2]
        assert min(one.tps + one.ratios + one.predicted) > 0
    rare, _, often, _ = found.forced
    assert rare.accepted is not None
    assert often.accepted is not None
    assert rare.accepted < 0.6 < often.accepted
    assert often.mean_drafted == pytest.approx(3, abs=0.2)
    assert len(told) == 2


def test_the_process_measures_what_the_script_asks_for(
    files: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    found = arguments("--tokens=20", "--rounds=1", "--acceptances=0.6", "--lengths=3,4")
    command = speed.measure_command(*files, found)
    # As on a GPU, but for a shorter prompt: these models' contexts are small.
    speeds = speed.measured((*command, "--cpu", "--threads=1", "--prefill=64"), os.environ)
    assert [one.n_drafted for one in speeds.forced] == [3, 4, 0]
    assert len(speeds.decode_tps) == 1
    assert capfd.readouterr().err.startswith("round 1 of 1: ")


def test_what_cannot_be_measured_is_one_line(
    files: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = speed.measure_command(files[0], tmp_path / "no.gguf", arguments())
    with pytest.raises(FwlocalError, match="left with 1"):
        speed.measured((*command, "--cpu"), os.environ)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("measure_speed: ")
    assert "no.gguf" in line
