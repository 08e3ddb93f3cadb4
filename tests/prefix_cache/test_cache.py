"""What is found for a prompt, and what is kept."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.files import user_cache
from fwlocal.prefix_cache import PrefixCache, default_folder
from fwlocal.prefix_cache.folder import entry_name
from fwlocal.prefix_cache.form import packed_tokens
from fwlocal.prefix_cache.headers import read_entry
from tests.prefix_cache.kept import BOUND, SETTING, UNCUTTABLE, Machine, roomy, state_of

TEXT = list(range(1000, 2000))
QUESTION, OTHER = list(range(300)), list(range(5000, 5300))


def test_a_prompt_that_goes_on_from_a_kept_one(machine: Machine) -> None:
    assert machine.put(TEXT) == "written"

    assert machine.common(TEXT + QUESTION) == len(TEXT)
    assert machine.common(TEXT[:600] + QUESTION) == 600, "any beginning is of use"


def test_the_last_token_is_evaluated_in_any_case(machine: Machine) -> None:
    machine.put(TEXT)

    assert machine.common(TEXT) == len(TEXT) - 1


def test_few_tokens_are_not_worth_it(machine: Machine) -> None:
    machine.put(TEXT)

    assert machine.find(TEXT[:255] + OTHER) is None
    assert machine.common(TEXT[:255] + OTHER, at_least=100) == 255
    assert machine.find(OTHER) is None
    assert machine.find([]) is None


def test_the_longest_beginning_is_found(machine: Machine) -> None:
    machine.put(TEXT[:400] + OTHER)
    machine.put(TEXT[:700] + QUESTION)
    machine.put(OTHER + TEXT)

    assert machine.common(TEXT) == 700


def test_of_equals_the_smaller_state_is_read(machine: Machine) -> None:
    machine.put(TEXT[:300] + QUESTION + OTHER, size_bytes=9000)
    machine.put(TEXT[:300] + OTHER, size_bytes=4000)

    hit = machine.find(TEXT)

    assert hit is not None
    assert (hit.n_common, hit.n_tokens, hit.header.state_bytes) == (300, 600, 4000)
    assert hit.saved_s == pytest.approx(10.0 / 2)


def test_the_rest_is_evaluated_in_the_batches_of_the_whole(machine: Machine) -> None:
    machine.put(TEXT)

    assert machine.common(TEXT + QUESTION, align=512) == 512
    assert machine.common(TEXT[:512], align=512) == 0, "its last token is of the first batch"
    assert machine.common(TEXT[:513], align=512) == 512


def test_a_state_that_the_context_has_no_room_for_is_not_found(machine: Machine) -> None:
    machine.put(TEXT)

    assert machine.find(TEXT, most_tokens=len(TEXT) - 1) is None
    assert machine.find(TEXT, most_tokens=len(TEXT)) is not None


def test_a_state_that_takes_longer_to_read_than_to_evaluate_is_left(root: Path) -> None:
    cache = PrefixCache(root, BOUND, free_bytes=roomy)
    cache.put(SETTING, TEXT, bytes(500_000), prefill_s=0.0005)

    assert cache.find(SETTING, TEXT) is None


CHANGES = (
    {"fingerprint": "cd" * 32},
    {"build": "llama.cpp 2"},
    {"kv_type": "q8_0"},
    {"flash_attn": "off"},
    {"n_ubatch": 256},
    {"n_threads": 3},
    {"n_threads_batch": 3},
    {"layers": ("CUDA0 (a card): 33",)},
    {"rope": "long"},
    {"switches": ("GGML_CUDA_MMQ_PREC=1",)},
    {"can_cut": False},
)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_another_setting_has_other_entries(machine: Machine, change: dict[str, object]) -> None:
    other = replace(SETTING, **change)  # type: ignore[arg-type]
    machine.put(TEXT)

    assert machine.find(TEXT + QUESTION, other) is None
    assert machine.put(TEXT, other) == "written"
    assert machine.common(TEXT + QUESTION, other) == len(TEXT)
    assert len(machine.entries) == 2


def test_another_name_is_no_other_model(machine: Machine) -> None:
    machine.put(TEXT)

    assert machine.common(TEXT, replace(SETTING, model="another name")) == len(TEXT) - 1


def test_what_is_known_is_not_written_again(machine: Machine) -> None:
    machine.put(TEXT)

    assert machine.put(TEXT) == "known"
    assert machine.put(TEXT[:500]) == "known"
    assert machine.put(TEXT + QUESTION[:200]) == "known", "that little is evaluated in a moment"
    assert len(machine.entries) == 1


def test_a_longer_one_takes_the_place_of_its_beginning(machine: Machine) -> None:
    machine.put(TEXT[:500])
    machine.put(TEXT[:400] + OTHER)

    assert machine.put(TEXT) == "written"

    assert len(machine.entries) == 2
    assert machine.common(TEXT[:500]) == 499
    assert machine.common(TEXT[:400] + OTHER) == 699


def test_a_beginning_stays_where_the_longer_one_is_too_large_to_read_for_it(root: Path) -> None:
    cache = PrefixCache(root, BOUND, free_bytes=roomy)
    assert cache.put(SETTING, TEXT[:300], bytes(1000), prefill_s=0.001) == "written"

    assert cache.put(SETTING, TEXT, bytes(900_000), prefill_s=3.0) == "written"

    found = [cache.find(SETTING, prompt) for prompt in (TEXT[:300], TEXT)]
    assert [hit.n_tokens for hit in found if hit] == [300, 1000]
    assert cache.put(SETTING, [*TEXT[:280], 7], bytes(900), prefill_s=0.001) == "known"


def test_a_state_that_cannot_be_cut_is_only_taken_whole(machine: Machine) -> None:
    machine.put(TEXT[:600], UNCUTTABLE)

    assert machine.put(TEXT, UNCUTTABLE) == "written"
    assert machine.put(TEXT, UNCUTTABLE) == "known"

    assert len(machine.entries) == 2, "the longer one cannot stand in for its beginning"
    assert machine.common(TEXT[:601], UNCUTTABLE) == 600
    assert machine.common(TEXT[:999], UNCUTTABLE) == 600
    assert machine.common([*TEXT, 1], UNCUTTABLE) == 1000
    assert machine.find(TEXT[:600], UNCUTTABLE) is None
    assert machine.find(TEXT[:600] + QUESTION, UNCUTTABLE, align=512) is None


def test_it_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path))

    assert default_folder() == user_cache() / "prefixes" == tmp_path / "prefixes"


def test_thousands_of_entries_are_searched_quickly(root: Path, machine: Machine) -> None:
    machine.put(TEXT, size_bytes=10)
    first = read_entry(str(machine.entries[0]))
    assert first is not None
    for number in range(2000):  # the same text with another end: put would not keep them all
        header = replace(first, tokens=packed_tokens([*TEXT, number]))
        path = root / entry_name(header.key, header.tokens)
        path.write_bytes(header.packed(first.state_sha256) + state_of(TEXT, size_bytes=10))

    started = time.perf_counter()
    hit = machine.find([*TEXT, 700, *QUESTION])
    taken = time.perf_counter() - started

    assert hit is not None
    assert hit.n_common == len(TEXT) + 1
    assert taken < 3, "a loaded machine takes half a second"
