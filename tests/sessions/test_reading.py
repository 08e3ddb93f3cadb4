"""From a file's bytes to a conversation, damaged ones too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.answer import FinishReason
from fwlocal.conversation import Change, Conversation
from fwlocal.errors import UsageError
from fwlocal.prompts import Message
from fwlocal.sessions.events import Event, Header, NewerFormat, Said, Speaker, encode
from fwlocal.sessions.reading import read, with_header
from tests.sessions.conftest import SPEAKER, result

HEADER = encode(Header("2026-01-01T12:00:00Z", SPEAKER, "be kind"))


def lines(*events: tuple[str, str]) -> bytes:
    return HEADER + b"".join(encode(Event(kind, "", text)) for kind, text in events)


def said(data: bytes) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in read(data).turns]


HELLO = ("user", "hello"), ("assistant", "hi")


def test_a_whole_file() -> None:
    session = read(lines(*HELLO))

    assert (session.header, session.system) == (Header("2026-01-01T12:00:00Z", SPEAKER, "be kind"),
                                                "be kind")  # fmt: skip
    assert session.conversation().messages == [
        Message("system", "be kind"),
        Message("user", "hello"),
        Message("assistant", "hi"),
    ]
    assert session.damages == ()


def test_an_answer_that_was_never_ended_is_as_long_as_its_pieces() -> None:
    session = read(lines(*HELLO, ("user", "and?"), ("piece", "Once "), ("piece", "upon")))

    assert [turn.text for turn in session.turns[2:]] == ["and?", "Once upon"]
    assert session.turns[-1].said is not None
    assert session.turns[-1].said.finish_reason == "cut off"


def test_an_ended_answer_has_its_pieces_but_once() -> None:
    data = lines(("user", "and?"), ("piece", "Once "), ("assistant", "Once upon"))

    assert said(data) == [("user", "and?"), ("assistant", "Once upon")]


def test_a_question_without_an_answer_waits() -> None:
    session = read(lines(*HELLO, ("user", "and?")))

    assert (len(session.turns), session.unanswered) == (2, "and?")
    assert session.in_words() == "1 turn, the last message without an answer"


def test_a_question_after_a_cut_answer_goes_on() -> None:
    data = lines(("user", "a"), ("piece", "b"), ("user", "c"), ("user", "d"), ("assistant", "e"))

    assert said(data) == [("user", "a"), ("assistant", "b"), ("user", "d"), ("assistant", "e")]


def test_wherever_a_file_is_cut_the_lines_before_are_whole() -> None:
    whole = lines(*HELLO, ("user", "größer?"), ("piece", "Once"), ("piece", " upon"))
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole)):
        before = max((end for end in ends if end <= cut), default=0)
        session, until_then = read(whole[:cut]), read(whole[:before])
        if cut + 1 in ends:  # the newline alone is missing
            assert (session.turns, session.damages) == (read(whole[: cut + 1]).turns, ())
            continue
        assert (session.turns, session.unanswered) == (until_then.turns, until_then.unanswered)
        assert [damage.data for damage in session.damages] == [whole[before:cut]] * (cut > before)


def test_a_cut_line_is_called_so() -> None:
    assert read(lines(*HELLO)[:-10]).complaint() == "line 3 is cut off"


MORE = ("user", "and?"), ("assistant", "Once upon"), ("continue", "")


def test_an_answer_goes_on() -> None:
    data = lines(*HELLO, *MORE, ("piece", " a"), ("continued", " a time"), ("user", "so?"))
    session = read(data)

    assert [turn.text for turn in session.turns[2:]] == ["and?", "Once upon a time"]
    assert session.unanswered == "so?"
    assert session.damages == ()


def test_what_went_on_and_was_never_ended_is_as_long_as_its_pieces() -> None:
    once = encode(Event("assistant", "", "Once ", said=Said(SPEAKER, finish_reason="length")))
    session = read(
        lines(("user", "and?")) + once + lines(MORE[2], ("piece", "upon "))[len(HEADER) :]
    )

    (_, answer) = session.turns
    assert (answer.message.content, answer.is_unfinished) == ("Once upon ", True)
    assert answer.said == Said(SPEAKER, finish_reason="cut off")


@pytest.mark.parametrize("end", [(), (("unanswered", ""),), (("user", "so?"),)])
def test_what_did_not_go_on_is_as_it_was(end: tuple[tuple[str, str], ...]) -> None:
    session = read(lines(*MORE, *end))

    assert [turn.text for turn in session.turns] == ["and?", "Once upon"]
    assert session.unanswered == ("so?" if end and end[0][0] == "user" else None)


def test_what_gives_way_to_more_of_an_answer() -> None:
    data = lines(*MORE) + encode(Event("continued", "", "n", said=Said(), n_dropped=3))

    assert read(data).turns[-1].text == "Once un"


def test_it_may_go_on_twice_and_its_facts_are_those_of_its_end() -> None:
    def answer(kind: str, text: str, reason: str) -> bytes:
        said = Said(SPEAKER, 1, finish_reason=reason, completion_tokens=4)
        return encode(Event(kind, "", text, said=said))

    go_on = encode(Event("continue", ""))
    data = lines(("user", "and?")) + answer("assistant", "Once ", "length") + go_on
    data += answer("continued", "upon ", "length") + go_on + answer("continued", "a time ", "stop")
    turn = read(data).turns[-1]

    assert turn.message.content == "Once upon a time"
    assert turn.said == Said(SPEAKER, 1, finish_reason="stop", completion_tokens=12)


def test_a_line_that_is_there_twice_counts_once() -> None:
    data = lines(*HELLO, ("user", "and?"), ("assistant", "Once"), MORE[2], ("continued", " more"))
    doubled = b"".join(line * 2 for line in data.splitlines(keepends=True))

    assert read(doubled).turns == read(data).turns
    assert read(doubled).complaint().startswith("line 2 is a second header, line 6 is an answer to")


def test_pieces_of_an_ended_answer_are_not_kept_in_memory() -> None:
    session = read(lines(("user", "a"), ("piece", "b"), ("assistant", "bc"), ("user", "d")))

    assert [event.kind for event in session.events] == ["user", "assistant", "user"]
    assert len(session.sound) == 5


def test_a_newer_header_counts_at_the_beginning_alone() -> None:
    newer = HEADER.replace(b'"version": 1', b'"version": 2')
    assert read(lines(*HELLO) + newer).complaint() == "line 4 is a second header"
    with pytest.raises(NewerFormat):
        read(newer + lines(*HELLO))


def test_a_lost_header_is_made_anew() -> None:
    lost = read(lines(*HELLO)[len(HEADER) :])
    mended = with_header(lost)

    assert read(b"\n".join(mended.sound)).turns == lost.turns
    assert mended.header == Header("", Speaker(), None)
    assert with_header(read(b"?")).says_nothing


def test_nonsense_in_the_middle_is_set_aside_and_named() -> None:
    data = HEADER + b"what is this?\n\xff\n\n" + lines(*HELLO)[len(HEADER) :] + HEADER
    session = read(data)

    assert [turn.text for turn in session.turns] == ["hello", "hi"]
    assert session.complaint() == (
        "line 2 is not JSON, line 3 is not UTF-8, line 7 is a second header"
    )
    assert [damage.data for damage in session.damages[:2]] == [b"what is this?", b"\xff"]


def test_without_a_header_the_turns_are_there() -> None:
    session = read(lines(*HELLO)[10:])

    assert (session.header, session.n_turns, len(session.damages)) == (None, 1, 1)


@pytest.mark.parametrize(
    "kind", ["assistant", "piece", "unanswered", "retry", "continue", "continued"]
)
def test_what_cannot_have_happened_is_damage(kind: str) -> None:
    assert len(read(lines((kind, "x"))).damages) == 1


def test_a_byte_order_mark_and_other_line_ends_do_no_harm() -> None:
    data = b"\xef\xbb\xbf" + lines(*HELLO).replace(b"\n", b"\r\n")

    assert (read(data).n_turns, read(data).damages) == (1, ())


CHANGES = st.lists(
    st.sampled_from(("ask", "lose", "again", "more", "edit", "undo", "system")),
    max_size=12,
)


@given(
    st.lists(
        st.sampled_from(("ask", "lose", "again", "more", "edit", "undo", "system")),
        max_size=12,
    )
)
def test_what_is_read_is_what_the_chat_had(changes: list[str]) -> None:
    events: list[Event] = []

    def note(change: Change) -> None:
        said = Said(finish_reason=change.result.finish_reason) if change.result else None
        events.append(Event(change.kind, "", change.text, change.n_turns, said))

    live = Conversation("be kind", on_change=note)
    for number, change in enumerate(changes):
        _happen(live, change, number)

    session = read(HEADER + b"".join(map(encode, events)))

    assert session.damages == ()
    assert session.conversation().messages == live.messages
    assert session.unanswered == live.unanswered


ASKING: dict[str, Callable[[Conversation, int], None]] = {
    "ask": lambda live, number: live.ask(f"question {number}"),
    "lose": lambda live, number: live.ask(f"question {number}"),
    "again": lambda live, _: live.ask_again(),
    "edit": lambda live, number: live.edit_last(f"edited {number}"),
    "more": lambda live, _: live.go_on(),
    "undo": lambda live, number: live.undo(1 + number % 2),
    "system": lambda live, number: live.set_system(f"system {number}"),
}


def _happen(live: Conversation, change: str, number: int) -> None:
    try:
        ASKING[change](live, number)
    except UsageError:
        return
    reason: FinishReason = "length" if number % 2 else "stop"
    if change == "lose" or (change in ("again", "more", "edit") and number % 3 == 0):
        live.take_back()
    elif change in ("ask", "again", "edit"):
        live.answered(result(f"answer {number} ", reason))
    elif change == "more":
        live.continued(result(f"and {number} ", reason))


SOUND = lines(*HELLO, ("user", "and?"), ("piece", "On"), ("assistant", "Once"), ("retry", ""),
              ("assistant", "Twice"), *HELLO, ("continue", ""), ("piece", "!"),
              ("continued", "!!"), ("continue", ""), ("piece", "?"))  # fmt: skip


@given(st.data())
def test_whatever_is_done_to_a_file_what_is_whole_is_kept(data: st.DataObject) -> None:
    """Bytes cut out, replaced and put in: it is read, and what was kept reads the same again."""
    start = data.draw(st.integers(0, len(SOUND)))
    end = data.draw(st.integers(start, min(len(SOUND), start + 90)))
    damaged = SOUND[:start] + data.draw(st.binary(max_size=20)) + SOUND[end:]

    session = read(damaged)
    again = read(b"".join(line + b"\n" for line in session.sound))

    assert again.turns == session.turns
    assert again.damages == ()
    aside = {damage.data for damage in session.damages}
    for line in damaged.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        assert not line.strip() or line in aside or line in session.sound
