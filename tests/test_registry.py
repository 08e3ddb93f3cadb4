"""models.toml: what ships, and every way to get one's own wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fwlocal.errors import ModelNotFound, RegistryError
from fwlocal.registry import DEFAULT_MODEL, Registry, load_registry, user_file
from fwlocal.shapes import LlamaShape

SHAPE = "n_layer = 2, n_embd = 64, n_ff = 128, n_head = 4, n_head_kv = 2, n_vocab = 512"
OWN = """
[mine]
title = "Mine"
parameters = "1B"
prompt_format = "chatml"
system = ""
context_length = 2048
default_level = "Q8_0"
licence = { name = "MIT", note = "", non_commercial = false }
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_model_of_the_family_is_known(registry: Registry) -> None:
    assert set(registry.models) == {
        DEFAULT_MODEL,
        "freewilly1",
        "freewilly2",
        "stable-beluga-7b",
        "stable-beluga-13b",
    }
    for name, spec in registry.models.items():
        assert spec.licence.non_commercial == (name != DEFAULT_MODEL)
        assert spec.gguf or spec.checkpoints or spec.package


def test_freewilly1_is_a_delta_with_its_base(registry: Registry) -> None:
    spec = registry.get("freewilly1")

    assert [checkpoint.delta for checkpoint in spec.checkpoints] == [True]
    assert spec.base is not None
    assert spec.base.repo == "huggyllama/llama-65b"
    assert spec.context_length == 2048


def test_freewilly2_drafts_with_its_small_sister(registry: Registry) -> None:
    assert registry.get("freewilly2").draft == "stable-beluga-7b"


def test_every_shape_is_known_before_a_download(registry: Registry) -> None:
    shape = registry.get("freewilly2").shape
    assert shape is not None
    assert (shape.n_layer, shape.n_head, shape.n_head_kv, shape.n_per_head) == (80, 64, 8, 128)
    assert all(spec.shape for spec in registry.models.values())


def test_entries_are_frozen(registry: Registry) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.get("freewilly2").title = "x"  # type: ignore[misc]


def test_an_unknown_name_offers_the_nearest(registry: Registry) -> None:
    with pytest.raises(ModelNotFound, match="did you mean freewilly2"):
        registry.get("frewilly2")
    with pytest.raises(ModelNotFound, match="'zzz'; `fwlocal models` lists them"):
        registry.get("zzz")


def test_a_users_file_adds_and_replaces(tmp_path: Path) -> None:
    replaced = OWN + OWN.replace("[mine]", "[freewilly2]")

    registry = load_registry(write(tmp_path, replaced))

    assert registry.get("mine").prompt_format == "chatml"
    assert registry.get("freewilly2").title == "Mine"
    assert "freewilly1" in registry.models


def test_a_users_entry_may_have_a_shape(tmp_path: Path) -> None:
    own = OWN + f"shape = {{ {SHAPE.replace('64', '66')}, head_dim = 16, tied = true }}"
    shape = load_registry(write(tmp_path, own)).get("mine").shape
    assert shape == LlamaShape(2, 66, 128, 4, 2, 512, head_dim=16, tied=True)
    assert shape.n_per_head == 16


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    assert "mine" in load_registry(write(tmp_path, "\ufeff" + OWN)).models


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[mine", "no valid TOML"),
        ("mine = 3", "mine: must be a table"),
        (OWN + "colour = 'red'", "mine: unknown key 'colour'"),
        (OWN.replace("system", "sistem"), "unknown key 'sistem'; did you mean 'system'?"),
        (OWN.replace('title = "Mine"', ""), "mine: key 'title' is missing"),
        (OWN.replace("2048", '"2048"'), "mine.context_length: must be an integer, not '2048'"),
        (OWN.replace("2048", "true"), "mine.context_length: must be an integer, not True"),
        (OWN.replace('"Mine"', "1"), "mine.title: must be a string, not 1"),
        (OWN.replace("false", '"no"'), "mine.licence.non_commercial: must be true or false"),
        (OWN.replace('name = "MIT", ', ""), "mine.licence: key 'name' is missing"),
        (OWN + "checkpoints = 1", "mine.checkpoints: must be a list"),
        (OWN + "checkpoints = [1]", "mine.checkpoints[0]: must be a table"),
        (OWN + 'gguf = { repo = "a/b", revision = "main", levels = 1 }', "levels: must be a table"),
        (OWN + 'sampling = { top_p = "x" }', "mine.sampling.top_p: must be a number"),
        (OWN.replace("chatml", "alpaca"), "mine.prompt_format: 'alpaca' is none of freewilly2"),
        (OWN + 'draft = "nothing"', "mine.draft: no model is called nothing"),
        (OWN + 'name = "other"', "unknown key 'name'"),
        (OWN.replace("[mine]", '["a/b"]'), "may not hold"),
        (OWN + "shape = { n_layer = 2 }", "mine.shape: key 'n_embd' is missing"),
        (OWN + f"shape = {{ {SHAPE.replace('64', '0')} }}", "mine.shape: n_embd must be 1 to"),
        (OWN + f"shape = {{ {SHAPE.replace('64', '66')} }}", "shape: n_head must divide n_embd"),
        (OWN + f"shape = {{ {SHAPE.replace('kv = 2', 'kv = 3')} }}", "must divide n_embd, and"),
        (OWN + f"shape = {{ {SHAPE}, tied = 1 }}", "shape.tied: must be true or false"),
    ],
)
def test_a_broken_file_names_the_entry(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RegistryError) as caught:
        load_registry(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RegistryError, match="not UTF-8"):
        load_registry(path)


def test_by_file_name(registry: Registry) -> None:
    spec = registry.by_file_name("stablebeluga2-70B.Q4_K_M.gguf")

    assert spec is not None
    assert spec.name == "freewilly2"
    assert registry.by_file_name("other.gguf") is None


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("stabilityai/StableBeluga2", "freewilly2"),
        ("stabilityai/FreeWilly2", "freewilly2"),
        ("freewilly1-delta-safetensor", "freewilly1"),
        ("StableBeluga-7B", "stable-beluga-7b"),
        ("somebody/StableBeluga2", None),
        ("whale", None),
    ],
)
def test_a_checkpoint_is_known_by_its_repository(
    registry: Registry, name: str, model: str | None
) -> None:
    spec = registry.by_checkpoint(name)
    assert (spec and spec.name) == model


def test_fwlocal_config_names_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, OWN)
    monkeypatch.setenv("FWLOCAL_CONFIG", str(tmp_path))
    assert user_file() == path
    monkeypatch.setenv("FWLOCAL_CONFIG", str(tmp_path / "none"))
    assert load_registry(user_file()).models  # it need not be there
    monkeypatch.setenv("FWLOCAL_CONFIG", str(path))
    with pytest.raises(RegistryError, match=r"models\.toml, a file; set it to the folder that"):
        user_file()
