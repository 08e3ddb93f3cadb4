"""Whatever is drafted, the answer is the one without, each token drawn once; the cache is clean."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.draft import Controller, Figures, KnownWidths, Speculation, Steering, Widths
from fwlocal.draft.widths import CPU_WIDTHS
from tests.draft.fakes import PROMPT, Cache, Clock, Context, Oracle, Sampler

SCRIPT = [10 + n % 50 for n in range(300)]
EXACT = KnownWidths(short_sure=CPU_WIDTHS, short_open=(), long_sure=CPU_WIDTHS, long_open=())
EOG = 2000


class Machine:
    """A speculation on a written answer; batches cost a little more than single tokens."""

    def __init__(
        self,
        is_right: Callable[[int], bool] = lambda place: True,
        *,
        script: list[int] = SCRIPT,
        widths: Widths | None = None,
        limit: int = 1000,
        n_ctx: int = 4096,
        token_s: float = 0.0,
        is_exact: Callable[[int], bool] = lambda rows: True,
        controller: Controller | None = None,
    ) -> None:
        self.clock = Clock()
        self.context = Context(script, self.clock, lambda rows: 0.9 + 0.1 * rows, is_exact)
        self.cache = Cache(self.context, n_ctx)
        self.oracle = Oracle(self.context, is_right, token_s)
        self.sampler = Sampler()
        self.widths = widths or Widths(lossless=True, known=EXACT)
        self.speculation = Speculation(
            self.cache,
            self.sampler,
            PROMPT,
            [self.oracle],
            Steering(controller or Controller(), self.widths),
            limit=limit,
            is_eog=lambda token: token == EOG,
            clock=self.clock,
        )
        self.speculation.prepare()
        self.steps = self.speculation.tokens()

    def say(self, n_tokens: int) -> list[int]:
        return list(islice(self.steps, n_tokens))

    def is_clean(self, n_said: int) -> bool:
        """Whether the cache holds all that was said but the last token."""
        expected = [*PROMPT, *self.context.script[: n_said - 1]]
        return self.cache.tokens == self.context.cached == expected


def test_right_drafts_save_passes() -> None:
    machine = Machine()

    assert machine.say(200) == SCRIPT[:200]

    assert len(machine.context.batches) < 50
    figures = machine.speculation.figures
    assert figures.n_accepted > 150
    assert figures.n_batches == sum(rows > 1 for rows in machine.context.batches)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([0.0, 0.05]))
def test_the_answer_is_the_same_whatever_is_drafted(pattern: list[bool], token_s: float) -> None:
    machine = Machine(lambda place: pattern[place % len(pattern)], token_s=token_s)

    assert machine.say(120) == SCRIPT[:120]

    assert machine.sampler.n_drawn == 120
    figures = machine.speculation.figures
    assert figures.n_accepted <= figures.n_drafted
    machine.steps.close()
    assert machine.is_clean(120)


@given(st.integers(1, 60))
def test_the_reader_may_stop_anywhere(n_tokens: int) -> None:
    machine = Machine()

    machine.say(n_tokens)
    machine.steps.close()

    assert machine.is_clean(n_tokens) or n_tokens == 1
    assert machine.sampler.n_drawn == n_tokens


def test_drafts_end_before_what_ends_the_answer() -> None:
    script = [*SCRIPT[:40], EOG, *SCRIPT]
    machine = Machine(script=script)

    assert machine.say(41) == script[:41]

    assert max(len(machine.cache.tokens), len(machine.context.cached)) <= len(PROMPT) + 40


def test_no_draft_goes_beyond_the_limit_of_the_answer() -> None:
    machine = Machine(limit=30)

    machine.say(30)

    assert len(machine.context.cached) <= len(PROMPT) + 29
    assert len(machine.context.batches) < 20


def test_no_draft_goes_beyond_the_context() -> None:
    machine = Machine(n_ctx=len(PROMPT) + 50)

    assert machine.say(51) == SCRIPT[:51]

    assert len(machine.context.cached) <= len(PROMPT) + 50


def test_the_logits_are_those_of_the_token_said_last() -> None:
    machine = Machine()

    for n in range(60):
        (token,) = machine.say(1)
        assert machine.speculation.logits() == (token, True), n


def test_without_drafters_it_decodes_one_by_one() -> None:
    machine = Machine()
    machine.speculation._drafters = ()

    assert machine.say(50) == SCRIPT[:50]

    assert set(machine.context.batches) == {1}
    assert machine.speculation.figures == Figures()


@pytest.mark.parametrize("token_s", [0.0, 0.05])
def test_what_is_exact_is_found_by_trials_in_the_first_answers(token_s: float) -> None:
    told: list[str] = []
    widths, controller = Widths(lossless=True, tell=told.append), Controller()
    accepted = []

    for _ in range(6):
        machine = Machine(widths=widths, token_s=token_s, controller=controller)
        assert machine.say(250) == SCRIPT[:250]
        assert machine.clock.now < 250 / 0.97
        accepted.append(machine.speculation.figures.n_accepted)

    assert accepted[0] == 0
    assert widths.known.short_sure
    assert accepted[-1] > 100
    assert told == []


@pytest.mark.parametrize("token_s", [0.0, 0.05])
def test_what_is_not_exact_is_not_used(token_s: float) -> None:
    told: list[str] = []
    machine = Machine(
        widths=Widths(lossless=True, tell=told.append),
        is_exact=lambda rows: rows == 1,
        token_s=token_s,
    )

    assert machine.say(250) == SCRIPT[:250]

    assert machine.speculation.figures == Figures()
    assert len(told) == 1
    assert "nothing is drafted" in told[0]
    assert machine.clock.now < 250 / 0.97


def test_only_as_many_as_are_exact_are_used() -> None:
    widths, controller = Widths(lossless=True), Controller()

    for _ in range(12):
        machine = Machine(widths=widths, is_exact=lambda rows: rows < 4, controller=controller)
        assert machine.say(250) == SCRIPT[:250]

    assert set(widths.known.short_sure) <= {2, 3}
    assert machine.speculation.figures.n_accepted > 50
    assert max(machine.context.batches) < 4


def test_a_model_that_forgets_nothing_is_told_of_once() -> None:
    told: list[str] = []
    machine = Machine(widths=Widths(lossless=True, can_truncate=False, tell=told.append))

    assert machine.say(50) == SCRIPT[:50]

    assert set(machine.context.batches) == {1}
    assert len(told) == 1


@pytest.mark.parametrize("n_batch", [1, 2, 5])
def test_no_more_rows_than_a_batch_holds(n_batch: int) -> None:
    machine = Machine()
    machine.context.n_batch = n_batch

    assert machine.say(100) == SCRIPT[:100]

    assert max(machine.context.batches) <= n_batch


def test_nothing_is_drafted_where_tokens_lie_elsewhere_than_in_the_trials() -> None:
    machine = Machine()
    machine.cache.is_compact = False

    assert machine.say(100) == SCRIPT[:100]

    assert set(machine.context.batches) == {1}
