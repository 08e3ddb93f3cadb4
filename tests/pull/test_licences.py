"""A non-commercial licence is accepted once, knowingly, and on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.hub.repository import Snapshot, snapshot
from fwlocal.pull.licences import RECORD, Terms, accept, is_accepted, is_non_commercial, terms_of
from fwlocal.registry import Registry
from tests.hub_server import HubServer

TERMS = Terms("freewilly2", "CC-BY-NC-4.0", "Non-commercial use only.", "the whole text")


def source(licence: str) -> Snapshot:
    return Snapshot("owner/repo", "main", "c" * 40, licence, {})


def test_once_accepted_never_asked_again(tmp_path: Path) -> None:
    assert not is_accepted(tmp_path, TERMS)
    accept(tmp_path, TERMS)
    assert is_accepted(tmp_path, TERMS)
    assert is_accepted(tmp_path, replace(TERMS, text=""))  # the text could not be had now
    assert not is_accepted(tmp_path, replace(TERMS, notice="Other terms."))
    assert not is_accepted(tmp_path, replace(TERMS, model="freewilly1"))


def test_the_record_has_the_date_and_the_texts_hash(tmp_path: Path) -> None:
    accept(tmp_path / "store", TERMS)
    accept(tmp_path / "store", replace(TERMS, model="other"))
    record = json.loads((tmp_path / "store" / RECORD).read_text())
    assert set(record) == {"freewilly2", "other"}
    assert record["freewilly2"]["accepted"].startswith("20")
    assert len(record["freewilly2"]["text_sha256"]) == 64


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"freewilly2": 3}'])
def test_a_damaged_record_is_asked_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / RECORD).write_text(damage)
    assert not is_accepted(tmp_path, TERMS)
    accept(tmp_path, TERMS)
    assert is_accepted(tmp_path, TERMS)


@pytest.mark.parametrize(
    ("licence", "is_so"),
    [
        ("cc-by-nc-4.0", True),
        ("CC_BY_NC_SA-4.0", True),
        ("Stable Beluga NC", True),
        ("fair-noncommercial-research-license", True),
        ("stabilityai non-commercial", True),
        ("cc-by-nc4.0", True),
        ("apache-2.0", False),
        ("llama2", False),
        ("", False),
        ("ncsa", False),
    ],
)
def test_what_a_licences_name_says(licence: str, is_so: bool) -> None:
    assert is_non_commercial(licence) == is_so


def test_known_models_have_their_own_notice(registry: Registry) -> None:
    terms = terms_of(registry.get("freewilly2"), source("other"))
    assert terms is not None
    assert terms.licence == "CC-BY-NC-4.0"
    assert "non-commercial" in terms.notice
    assert terms_of(registry.get("smollm2-135m"), source("cc-by-nc-4.0")) is None


def test_other_models_are_judged_by_their_card() -> None:
    terms = terms_of(None, source("cc-by-nc-4.0"))
    assert terms is not None
    assert terms.model == "owner/repo"
    assert terms_of(None, source("mit")) is None


def test_the_repositorys_own_text_is_what_is_accepted() -> None:
    with HubServer() as hub:
        hub.add("owner/nc", {"LICENSE.txt": b"Do no trade."}, licence="cc-by-nc-4.0")
        terms = terms_of(None, snapshot("owner/nc", endpoint=hub.endpoint))
    assert terms is not None
    assert terms.text == "Do no trade."
    assert terms.path is not None
    assert terms.path.name == "LICENSE.txt"
