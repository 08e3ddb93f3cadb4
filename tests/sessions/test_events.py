"""The lines of a session's file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.sessions.events import (
    KINDS,
    Event,
    Header,
    NewerFormat,
    Nonsense,
    Said,
    Speaker,
    decode,
    encode,
    is_piece,
)

SPEAKER = Speaker("whale:Q8_0", "Q8_0", "chatml")
any_text = st.text(st.characters())  # half surrogates too


def test_a_line_is_readable_by_hand() -> None:
    said = Said(SPEAKER, 42, {"temperature": 0.5}, "stop", 10, 3, 7, {"ttft_s": 0.1})
    line = encode(Event("assistant", "2026-01-01T12:00:00Z", "Größe\n", said=said))

    assert line.startswith(
        '{"event": "assistant", "time": "2026-01-01T12:00:00Z", "text": "Größe\\n", '
        '"model": "whale:Q8_0", "level": "Q8_0", "prompt_format": "chatml", "seed": 42, '.encode()
    )


@given(st.builds(Event, st.sampled_from(("user", "piece", "system")), any_text, any_text))
def test_what_is_written_is_read(event: Event) -> None:
    line = encode(event)

    assert line.count(b"\n") == 1
    assert decode(line) == event


def test_what_was_added_to_an_answer_has_its_facts() -> None:
    event = Event(
        "continued", "", " and on", said=Said(SPEAKER, 42, finish_reason="length"), n_dropped=1
    )

    assert decode(encode(event)) == event
    assert decode(encode(Event("continue", "now"))) == Event("continue", "now")


@given(any_text)
def test_a_piece_is_known_by_its_beginning(text: str) -> None:
    assert is_piece(encode(Event("piece", "", text)))
    assert not is_piece(encode(Event("user", "", text)))


@given(any_text, any_text, st.none() | any_text)
def test_so_is_a_header(created: str, model: str, system: str | None) -> None:
    header = Header(created, Speaker(model, None, "chatml"), system)

    assert decode(encode(header)) == header


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"", "not JSON"),
        (b'{"event": "user", "te', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"event": "user", "text": "\xff"}', "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b'{"event": ["user"]}', "no event that is known"),
        (b'{"event": "user"}', "its text is missing or is none"),
        (b'{"event": "assistant", "text": 7}', "its text is missing or is none"),
        (b'{"event": "undo", "turns": true}', "its number of turns is missing or is none"),
        (b'{"event": "session"}', "a header without its version"),
        (b'{"event": "session", "version": 0}', "a header without its version"),
    ],
)
def test_nonsense_is_named(line: bytes, what: str) -> None:
    with pytest.raises(Nonsense, match=what):
        decode(line)


def test_a_newer_format_is_no_nonsense() -> None:
    with pytest.raises(NewerFormat, match="format 2"):
        decode(b'{"event": "session", "version": 2}')


def test_an_answers_text_outlives_wrong_facts() -> None:
    data = {"event": "assistant", "text": "yes", "seed": "x", "timings": 3, "model": None}
    event = decode(json.dumps(data).encode())

    assert event == Event("assistant", "", "yes", said=Said())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
keys = st.sampled_from(("event", "text", "time", "turns", "version", "seed", "model", "x"))


@given(st.dictionaries(keys, json_values | st.sampled_from(KINDS)))
def test_any_json_is_a_line_or_nonsense(data: dict[str, object]) -> None:
    try:
        line = decode(json.dumps(data).encode())
    except (Nonsense, NewerFormat):
        return
    assert decode(encode(line)) == line
