"""How many of the oldest questions leave a full context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import PromptTooLong
from fwlocal.fitting import DROP, SHIFT, STOP, answer_room, fit

HEAD, LIMIT, ROOM = 50, 4096, 1024


class Chat:
    """Counts the tokens of a chat whose questions with their answers have ``pairs`` tokens."""

    def __init__(self, *pairs: int, message: int = 100, head: int = HEAD) -> None:
        self.pairs, self.alone = pairs, head + message
        self.n_counted = 0

    def count(self, n_left: int) -> int:
        self.n_counted += 1
        return self.alone + sum(self.pairs[n_left:])

    def fit(
        self, *, n_left: int = 0, on_full: str = SHIFT, limit: int = LIMIT, room: int = ROOM
    ) -> int:
        return fit(
            self.count,
            n_left=n_left,
            n_may_leave=len(self.pairs),
            limit=limit,
            room=room,
            on_full=on_full,
        )


def test_nothing_leaves_what_fits() -> None:
    chat = Chat(*[300] * 9)

    assert chat.fit() == 0
    assert chat.n_counted == 1


@pytest.mark.parametrize("on_full", [SHIFT, DROP])
def test_the_oldest_leave_until_half_of_what_is_left_over_is_free(on_full: str) -> None:
    chat = Chat(*[300] * 10)

    n_left = chat.fit(on_full=on_full)

    spare = LIMIT - ROOM - HEAD - 100
    assert 300 * (10 - n_left) <= spare / 2 < 300 * (10 - n_left + 1)


def test_it_does_not_happen_again_at_every_turn() -> None:
    pairs: list[int] = []
    n_left = times = 0
    for _ in range(100):
        before, n_left = n_left, Chat(*pairs).fit(n_left=n_left)
        times += n_left != before
        pairs.append(300)

    assert times < 20


def test_what_left_stays_out() -> None:
    assert Chat(*[300] * 10).fit(n_left=8) == 8


def test_counting_is_cheap() -> None:
    chat = Chat(*[40] * 2000)
    chat.fit()

    assert chat.n_counted <= 14


def test_all_but_a_large_message_may_leave() -> None:
    assert Chat(300, 300, message=3900).fit() == 2


def test_a_message_that_cannot_fit_names_both_counts() -> None:
    chat = Chat(300, message=5000)

    with pytest.raises(PromptTooLong, match=r"message has 5050 tokens.* holds 4096; shorten"):
        chat.fit()


def test_a_chat_that_shall_stop_does_so_when_it_is_full_and_not_before() -> None:
    assert Chat(3000).fit(on_full=STOP) == 0
    assert Chat(3800).fit(on_full=STOP) == 0
    with pytest.raises(PromptTooLong, match=r"full: the prompt has 4250 tokens .* 4096"):
        Chat(2000, 2100).fit(on_full=STOP)
    with pytest.raises(PromptTooLong, match="message has 5050"):
        Chat(message=5000).fit(on_full=STOP)


@pytest.mark.parametrize(
    ("limit", "max_tokens", "room"), [(8192, None, 1024), (2048, None, 512), (8192, 100, 100)]
)
def test_the_room_for_an_answer(limit: int, max_tokens: int | None, room: int) -> None:
    assert answer_room(limit, max_tokens) == room


sizes = st.integers(1, 3000)


@given(st.lists(sizes, max_size=12), sizes, sizes, st.integers(256, 8192), st.integers(1, 2000))
def test_what_stays_fits_or_nothing_more_can_leave(
    pairs: list[int], head: int, message: int, limit: int, room: int
) -> None:
    chat = Chat(*pairs, head=head, message=message)
    room = min(room, limit // 4)
    try:
        n_left = chat.fit(limit=limit, room=room)
    except PromptTooLong:
        assert chat.alone + room > limit
        return
    assert 0 <= n_left <= len(pairs)
    assert chat.count(n_left) + room <= limit or n_left == len(pairs)
    assert chat.count(n_left) < limit
    if n_left:
        assert chat.count(0) + room > limit
