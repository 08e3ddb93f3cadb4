"""Forecasts as people and programs see them."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from fwlocal.forecast.cards import GB
from fwlocal.forecast.data import as_data
from fwlocal.forecast.estimate import Candidate, forecast
from fwlocal.forecast.view import View, show
from fwlocal.forecast.what_if import ASSUMED_RAM, imagined_gpus, setup
from fwlocal.forecast.wording import FORMULA, verdict
from fwlocal.hardware import Memory
from fwlocal.offload import Request
from fwlocal.sizes import GIB
from tests.forecast.test_estimate import SEVEN, SEVENTY, header


def a_view(
    *levels: str,
    chosen: str | None = None,
    gpu_gib: int = 24,
    ram_gib: int = 64,
    imatrix: bool = False,
    draft: Candidate | None = None,
) -> View:
    ram = Memory(ram_gib * GIB, ram_gib * GIB)
    there = setup(imagined_gpus([gpu_gib * GIB]), (), ram, ram_speed=ASSUMED_RAM)
    found = [
        forecast(
            Candidate(level, header(SEVENTY, level), "convert", imatrix),
            there.machine,
            Request(n_ctx=4096),
            there.speeds,
            draft,
        )
        for level in levels
    ]
    detail = next((one for one in found if one.candidate.level == chosen), None)
    return View("whale", found, detail, there)


def shown(view: View, width: int = 100, *, is_terminal: bool = True) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=is_terminal, color_system=None)
    show(view, console)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_every_level_is_a_row_and_the_best_is_named() -> None:
    lines = shown(a_view("Q2_K", "Q4_K_M", "F16"))
    assert [line.split()[0] for line in lines[:4]] == ["LEVEL", "Q2_K", "Q4_K_M", "F16"]
    assert lines[0].endswith("TOK/S")
    assert "of 81 layers" in lines[1]
    assert lines[3].split()[1:4] == ["128.5", "GiB", "convert"]
    assert " no " in lines[3]
    for gpu_gib, says in (
        (24, r"\* once converted, Q2_K fits best: \d\d of 81 layers, about "),
        (48, r"\* once converted, Q4_K_M fits best: whole, about "),
        (0, r"\* once converted, Q4_K_M fits best: on the CPU, about "),
    ):
        lines = shown(a_view("Q2_K", "Q4_K_M", "F16", gpu_gib=gpu_gib))
        (said,) = (line for line in lines if line.startswith("*"))
        assert re.match(says, said)
        marked = [line.split()[0] for line in lines if line.endswith("  *")]
        assert marked == [said.split()[3]]
    assert "no level fits" in shown(a_view("F16", "F32"))


def test_the_level_to_take_is_bold_and_marked_without_colours_too() -> None:
    view = a_view("Q2_K", "Q4_K_M", "F16", gpu_gib=48)
    screen = io.StringIO()
    show(view, Console(file=screen, width=100, force_terminal=True, color_system="standard"))
    rows = {level: line for line in screen.getvalue().splitlines()
            for level in ("Q2_K", "Q4_K_M") if level in line and "GiB" in line}  # fmt: skip
    assert re.search(r"\x1b\[1m[^\x1b]*whole", rows["Q4_K_M"])
    assert not re.search(r"\x1b\[1m[^\x1b]*whole", rows["Q2_K"])
    in_a_pipe = shown(view, is_terminal=False)
    assert [line.split()[0] for line in in_a_pipe if line.endswith("  *")] == ["Q4_K_M"]


def test_a_better_level_that_must_be_made_is_named_with_the_way_to_it() -> None:
    there = a_view("Q2_K").forecasts[0]
    had = replace(there, candidate=replace(there.candidate, origin="ready-made"))
    (needy,) = a_view("IQ2_XXS", imatrix=True).forecasts
    said = verdict([needy, had])
    assert re.fullmatch(
        r"\* ready-made, Q2_K fits best: \d\d of 81 layers, about \d\d tok/s; "
        r"once converted with --imatrix, IQ2_XXS: whole, about \d\d tok/s",
        said,
    )
    assert verdict([needy]).startswith("* once converted with --imatrix, IQ2_XXS fits best: whole")


def test_the_estimate_and_what_it_rests_on_are_said() -> None:
    text = "\n".join(shown(a_view("Q2_K", "Q4_K_M"), 200))
    assert "GPU0: 24.0 GiB, 1008 GB/s (taken for an RTX 4090)" in text
    assert "RAM: 64.0 GiB free, 60 GB/s (assumed: two channels of DDR5)" in text
    assert FORMULA in text.splitlines()
    assert len(FORMULA) < 80
    assert "imatrix" not in text
    assert "imatrix: to be converted" in "\n".join(shown(a_view("Q2_K", imatrix=True), 200))


def test_one_plan_in_detail() -> None:
    lines = shown(a_view("Q4_K_M", chosen="Q4_K_M"))
    assert lines[0].startswith("whale:Q4_K_M, context 4096, KV cache ")
    assert "tok/s" in lines[0]
    gpu, cpu = (line.split() for line in lines[2:4])
    assert (gpu[0], cpu[0]) == ("GPU0", "CPU")
    assert int(gpu[1]) + int(cpu[1]) == 81
    assert gpu[-1] == "97%"
    assert gpu[-2] == "██████████"
    assert lines[4].endswith("with the KV cache in q8_0")  # the plan's own reason
    assert any("more on GPU0 all layers fit" in line for line in lines)  # its advice


DRAFT = Candidate("Q4_K_M", header(SEVEN, "Q4_K_M"), "convert", name="minnow:Q4_K_M")


def test_a_draft_comes_first_as_it_is_placed() -> None:
    lines = shown(a_view("Q4_K_M", chosen="Q4_K_M", draft=DRAFT), 120)
    assert lines[0] == "draft: minnow:Q4_K_M, context 4096, KV cache f16"
    assert lines[2].split()[:2] == ["GPU0", "33"]
    start = next(n for n, line in enumerate(lines) if line.startswith("whale:Q4_K_M"))
    draft, whale = lines[2].split(), lines[start + 2].split()
    assert whale[0] == draft[0]
    assert float(whale[-4]) < float(draft[-4])  # free
    assert lines[-1].startswith("draft: minnow:Q4_K_M is placed first where both fit")


def test_a_draft_that_takes_more_than_it_brings_is_told() -> None:
    large = a_view("Q4_K_M", chosen="Q4_K_M", draft=DRAFT, gpu_gib=42)
    assert any("--draft off may be faster" in line for line in shown(large, 120))
    whole = a_view("Q4_K_M", chosen="Q4_K_M", draft=DRAFT, gpu_gib=48)
    assert not any("--draft off" in line for line in shown(whole, 120))


def test_without_room_for_a_draft_a_line_says_so() -> None:
    view = a_view("Q4_K_M", chosen="Q4_K_M", draft=DRAFT, gpu_gib=0, ram_gib=43)
    lines = shown(view, 300)
    assert lines[0].startswith("no memory for the draft beside the model")
    assert not any("placed first" in line for line in lines)
    (level,) = as_data(view)["levels"]
    assert level["draft"]["refusal"] == lines[0]


def test_the_chosen_level_follows_the_table() -> None:
    text = "\n".join(shown(a_view("Q2_K", "Q4_K_M", chosen="Q4_K_M"), 200))
    assert text.index("LEVEL") < text.index("whale:Q4_K_M") < text.index("DEVICE")
    refused = a_view("Q2_K", "F16", chosen="F16")
    assert "whale" not in "\n".join(shown(refused, 200)).split("would fit")[0]
    assert any(line.startswith("F16.gguf") for line in shown(refused, 200))


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_it_fits_every_terminal(width: int) -> None:
    for view in (a_view("Q2_K", "Q4_K_M"), a_view("Q4_K_M", chosen="Q4_K_M")):
        lines = shown(view, width)
        assert max(map(len, lines)) <= width
    if width >= 40:
        first = shown(a_view("Q2_K", "Q4_K_M"), width)
        assert {"LEVEL", "FITS", "TOK/S"} <= set(first[0].split())
        assert len([line for line in first if line.startswith("Q")]) >= 2


def test_in_a_pipe_every_sentence_is_a_line() -> None:
    lines = shown(a_view("Q4_K_M", chosen="Q4_K_M"), 20, is_terminal=False)
    assert any(line.startswith("tok/s: an estimate") and line.endswith("full)") for line in lines)
    assert "WEIGHTS" in lines[1]
    assert not any("\x1b" in line for line in lines)


def test_for_programs() -> None:
    view = a_view("Q2_K", "Q4_K_M", "F16", chosen="Q4_K_M")
    data = json.loads(json.dumps(as_data(view)))
    assert data["model"] == "whale"
    assert data["chosen"] == "Q4_K_M"
    first, second, third = data["levels"]
    assert [share["device"] for share in second["shares"]] == ["GPU0", "CPU"]
    gpu = second["shares"][0]
    assert gpu["total_bytes"] == gpu["weights_bytes"] + gpu["kv_bytes"] + gpu["compute_bytes"]
    assert first["tokens_per_s"] > second["tokens_per_s"] > 1
    assert second["n_gpu_layers"] == gpu["n_layers"]
    assert second["reason"]
    assert [level["fits_whole"] for level in data["levels"]] == [False] * 3
    assert data["best"] == "Q2_K"
    assert third["fits"] == "no"
    assert third["tokens_per_s"] is None
    assert "would fit" in third["refusal"]
    assert "draft" not in first
    assert data["machine"]["gpus"][0]["bandwidth_bytes_per_s"] == 1008 * GB
    assert data["machine"]["ram"]["total_bytes"] == 64 * GIB


def test_a_draft_for_programs() -> None:
    (level,) = as_data(a_view("Q4_K_M", draft=DRAFT))["levels"]
    draft = level["draft"]
    assert (draft["model"], draft["level"]) == ("minnow:Q4_K_M", "Q4_K_M")
    assert draft["n_gpu_layers"] == draft["shares"][0]["n_layers"] == 33
