"""Which command helps."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from convert.recipes import LEVELS
from fwlocal.registry import Registry
from fwlocal.store.advice import CONVERTIBLE, how_to_get, levels_to_get, way_on
from fwlocal.store.beginnings import Beginning

FOLDER = Path("models", "m")


def test_the_levels_are_the_converters() -> None:
    assert tuple(LEVELS) == CONVERTIBLE


@pytest.mark.parametrize(
    ("name", "level", "beginning", "command"),
    [
        ("whale", "Q4_0", None, ""),
        ("freewilly2", "Q4_0", None, "fwlocal pull freewilly2:Q4_0"),
        ("freewilly2", "odd", None, ""),
        ("Whale", "Q4_0", Beginning("download", "o/Whale", "", "w.Q4_0.gguf"),
         "fwlocal pull o/Whale:Q4_0"),
        ("Whale", "Q4_0", Beginning("download", "o/Whale-GGUF", "", "w.Q4_0.gguf"),
         "fwlocal pull o/Whale-GGUF:Q4_0"),
        ("mine", "Q4_0", Beginning("download", "o/Whale", "", "w.q4_0.gguf"),
         "fwlocal pull o/Whale:Q4_0 --name mine"),
        ("Whale", "GGUF", Beginning("download", "o/Whale", "", "a b/whale.gguf"),
         "fwlocal pull 'o/Whale/a b/whale.gguf' --name Whale"),
        ("freewilly2", "Q4_0", Beginning("download", "TheBloke/StableBeluga2-70B-GGUF", "", "f"),
         "fwlocal pull freewilly2:Q4_0"),
        ("Whale", "Q4_0", Beginning("convert", "o/Whale"),
         "fwlocal pull o/Whale:Q4_0 --from-source"),
        ("mine", "Q4_0", Beginning("convert", "o/Whale"),
         "fwlocal pull o/Whale:Q4_0 --from-source --name mine"),
        ("freewilly2", "Q8_0", Beginning("convert", "petals-team/StableBeluga2"),
         "fwlocal pull freewilly2:Q8_0"),
        ("freewilly2", "Q4_0", Beginning("convert", "petals-team/StableBeluga2"),
         "fwlocal pull freewilly2:Q4_0 --from-source"),
        ("freewilly2", "Q4_0", Beginning("convert", "stabilityai/StableBeluga2"),
         "fwlocal pull stabilityai/StableBeluga2:Q4_0 --from-source"),
        ("freewilly1", "Q4_0", Beginning("convert", "StableBeluga1-Delta", base="llama-65b"),
         "fwlocal convert StableBeluga1-Delta --quant Q4_0 --base llama-65b"),
        ("whale", "Q4_0", Beginning("convert", "my whale"),
         f"fwlocal convert 'my whale' --quant Q4_0 --name whale --out {shlex.quote(str(FOLDER))}"),
    ],
)  # fmt: skip
def test_what_is_unfinished_goes_on(
    name: str, level: str, beginning: Beginning | None, command: str, registry: Registry
) -> None:
    assert way_on(name, level, registry.models.get(name), beginning, FOLDER) == command


@pytest.mark.parametrize(
    ("model", "level", "says"),
    [
        ("freewilly2", "Q4_0", "(38.9 GB); get it with `fwlocal pull freewilly2:Q4_0`"),
        ("freewilly2", "F16", "get it with `fwlocal pull freewilly2:F16`, which converts it"),
        ("freewilly1", "odd", "'odd'; there is all of `fwlocal convert --list-levels`"),
        ("smollm2-135m", "F16", "'F16'; there is Q4_1"),
    ],
)
def test_what_is_not_here_can_be_got(model: str, level: str, says: str, registry: Registry) -> None:
    assert how_to_get(registry.models[model], level).endswith(says)


def test_published_levels_go_first(registry: Registry) -> None:
    assert levels_to_get(registry.models["smollm2-135m"]) == ("Q4_1",)
    assert levels_to_get(registry.models["stable-beluga-7b"])[0] == "Q2_K"
    assert set(CONVERTIBLE) == set(levels_to_get(registry.models["freewilly1"]))
