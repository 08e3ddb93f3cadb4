"""A run on tiny models: every part together, and what is kept between two of them."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from fwlocal.bench.entrants import Entry, entrants_of
from fwlocal.bench.kept import Kept
from fwlocal.bench.order import Order
from fwlocal.bench.progress import Silent
from fwlocal.bench.result import BenchResult, LevelResult, Settings, SpeedTest
from fwlocal.bench.run import Run
from fwlocal.bench.text import Text
from fwlocal.bench.verdict import Wishes
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted, UsageError
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.locks import held
from fwlocal.oneshot.batch_lines import Asked, read_lines
from fwlocal.store import ModelFile
from tests.conftest import TEMPLATE
from tests.tiny_llama import Shape, write_gguf

PP, TG = SpeedTest(32, 0), SpeedTest(0, 4)
SETTINGS = Settings(64, 512, 512, "f16", "auto", repetitions=2, chunks=3, tests=(PP, TG))
WORDS = Random(0).choices(("the", "whale", "sings", "and", "sea"), k=400)
TEXT = Text("whales.txt", "ab" * 32, " ".join(WORDS))
OPTIONS = EngineOptions(n_threads=1, kv_type="f16")


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files of one tokenizer: a model, a copy of it, and another model's weights."""
    folder = tmp_path_factory.mktemp("levels")
    return [
        write_gguf(folder / f"{name}.gguf", seed=seed, template=TEMPLATE)
        for name, seed in (("a-whale", 0), ("b-copy", 0), ("c-other", 1))
    ]


def order_of(paths: list[Path], **changes: object) -> Order:
    entrants, unreadable = entrants_of(Entry(ModelFile(path.stem, path)) for path in paths)
    order = Order("whales", entrants, OPTIONS, SETTINGS, TEXT, unreadable, "a-whale", cold=False)
    return replace(order, **changes)  # type: ignore[arg-type]


@dataclass
class Watched(Silent):
    """Remembers the steps, and does something at each."""

    at_step: Callable[[str], None] = lambda text: None
    steps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def step(self, text: str, weight: float = 1.0) -> None:
        self.steps.append(text)
        self.at_step(text)

    def note(self, message: str) -> None:
        self.notes.append(message)


def measured(order: Order, folder: Path, view: Watched | None = None) -> BenchResult:
    run = Run(order, Kept(folder), view or Watched(), Interrupt())
    run.measure()
    return run.result()


def of(result: BenchResult, label: str) -> LevelResult:
    return next(level for level in result.levels if level.label == label)


def test_every_level_is_measured(levels: list[Path], tmp_path: Path) -> None:
    result = measured(order_of(levels), tmp_path / "kept")

    assert {level.label for level in result.levels} == {"a-whale", "b-copy", "c-other"}
    for level in result.levels:
        assert [speed.test for speed in level.speeds] == [PP, TG]
        assert all(len(speed.tps) == 2 for speed in level.speeds)
        assert level.quality is not None
        assert level.quality.n_chunks == 3
        assert level.quality.n_tokens == 3 * 31
        assert level.bandwidth_share
        assert level.peak_rss_bytes
    assert result.reference == "a-whale"
    assert result.text is not None
    assert result.text.name == "whales.txt"
    assert result.settings.chunks == 3


def test_a_copy_ties_and_another_model_does_not(levels: list[Path], tmp_path: Path) -> None:
    result = measured(order_of(levels), tmp_path / "kept")
    copy, other = of(result, "b-copy").quality, of(result, "c-other").quality

    assert copy is not None
    assert other is not None
    assert (copy.kld_mean.value, copy.top1.value) == (0.0, 1.0)
    assert other.kld_mean.value > 1e-4
    ties = {(d.a, d.b): d.is_tie for d in result.differences if d.measure == "kld_mean"}
    assert ties == {("a-whale", "b-copy"): True, ("b-copy", "c-other"): False}


def test_rounds_take_turns(levels: list[Path], tmp_path: Path) -> None:
    view = Watched()
    measured(order_of(levels[:2], text=None), tmp_path / "kept", view)

    rounds = [step.split(":")[0] for step in view.steps if "round" in step and "tg" in step]
    labels = [entrant.label for entrant in order_of(levels[:2]).entrants]
    assert rounds == [f"{label}, round {n} of 2" for n in (1, 2) for label in labels]


def test_what_was_measured_is_not_measured_again(levels: list[Path], tmp_path: Path) -> None:
    first = measured(order_of(levels), tmp_path / "kept")
    view = Watched()
    again = measured(order_of(levels), tmp_path / "kept", view)

    assert again.levels == first.levels
    assert not [step for step in view.steps if "loading" in step]
    assert "all of it was measured before (--fresh measures again)" in view.notes

    fresh = measured(order_of(levels, fresh=True), tmp_path / "kept")
    assert of(fresh, "a-whale").speeds != of(first, "a-whale").speeds
    assert of(fresh, "c-other").quality == of(first, "c-other").quality


@pytest.mark.parametrize("at", ["round 1 of 2: tg", "round 2 of 2: load", "chunk 2 of 3", "answer"])
def test_a_run_that_was_stopped_goes_on(levels: list[Path], tmp_path: Path, at: str) -> None:
    prompts = asked('{"prompt": "the whale"}', '{"prompt": "the sea"}')
    order = order_of(levels, prompts=prompts, max_tokens=4, wishes=Wishes(max_kld=1.0))
    interrupt, kept = Interrupt(), tmp_path / "kept"
    run = Run(order, Kept(kept), Watched(at_step=stopping(interrupt, at)), interrupt)
    with pytest.raises(Interrupted):
        run.measure()
    assert run.result().verdict == replace(run.result().verdict, label="", reason="")
    before = {level.label: (level.rounds[:], level.scores[:]) for level in run.state.levels}
    assert run.result().levels  # what is whole can be shown

    run = Run(order, Kept(kept), Watched(), Interrupt())
    run.measure()
    for level in run.state.levels:
        rounds, scores = before[level.label]
        for one, was in zip(level.rounds, rounds, strict=False):
            assert one.speeds[: len(was.speeds)] == was.speeds
        assert len(level.scores) == 3 >= len(scores)
        assert len(level.rounds) == 2


def test_a_round_goes_on_at_the_test_where_it_was_stopped(
    levels: list[Path], tmp_path: Path
) -> None:
    order = order_of(levels[:1], text=None, cold=False)
    interrupt, kept = Interrupt(), tmp_path / "kept"
    view = Watched(at_step=stopping(interrupt, "round 2 of 2: tg4"))
    stopped = Run(order, Kept(kept), view, interrupt)
    with pytest.raises(Interrupted):
        stopped.measure()
    first, half = stopped.state.levels[0].rounds
    assert [test for test, _ in half.speeds] == [PP]
    assert len(of(stopped.result(), "a-whale").speeds[0].tps) == 2

    view = Watched()
    again = Run(replace(order, run_id="later"), Kept(kept), view, Interrupt())
    again.measure()
    steps = [step for step in view.steps if "round" in step]
    assert steps == ["a-whale, round 2 of 2: loading", "a-whale, round 2 of 2: tg4"]
    whole = again.state.levels[0].rounds
    assert whole[0] == first
    assert (whole[1].speeds[0], len(whole[1].speeds)) == (half.speeds[0], 2)
    assert (whole[1].started, whole[1].run_id) == (half.started, "later")
    assert (first.run_id, len(first.started)) == (order.run_id, 25)


def test_rounds_of_another_day_are_told(levels: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = Run(order_of(levels[:1], text=None), Kept(kept), Watched(), Interrupt())
    first.measure()
    started = first.state.levels[0].rounds[0].started
    times = {one.started[:16] for one in first.state.levels[0].rounds}
    when = f"{started[:10]} ({started[11:16]} UTC)"
    when = f"on {when}" if len(times) == 1 else f"from {when} on"

    view = Watched()
    measured(order_of(levels, text=None), kept, view)
    told = (
        f"rounds of a-whale were measured {when}, apart from the others; --fresh measures all in "
        "turns"
    )
    assert told in view.notes

    view = Watched()
    measured(order_of(levels, text=None), kept, view)  # now as much of it is kept as there can be
    assert told in view.notes
    view = Watched()
    measured(order_of(levels, text=None, fresh=True), kept, view)
    measured(order_of(levels, text=None), kept, view)
    assert not [note for note in view.notes if "apart from" in note]


def test_two_runs_do_not_time_each_other(levels: list[Path], tmp_path: Path) -> None:
    kept, interrupt = tmp_path / "kept", Interrupt()
    kept.mkdir()

    @dataclass
    class Waits(Watched):
        """Is stopped while it waits."""

        def note(self, message: str) -> None:
            super().note(message)
            interrupt.set(signal.SIGINT)

    view = Waits()
    run = Run(order_of(levels[:1], text=None), Kept(kept), view, interrupt)
    with held(kept / "speed", "measuring speed"), pytest.raises(Interrupted):
        run.measure()
    assert "is measuring speed, and two would slow each other; waiting" in view.notes[-1]
    assert not [step for step in view.steps if "round" in step]


def test_one_that_waited_takes_what_the_other_measured(levels: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    order = order_of(levels[:1], text=None)
    done = Run(order, Kept(tmp_path / "other"), Watched(), Interrupt())
    done.measure()
    kept.mkdir()
    with contextlib.ExitStack() as other:
        other.enter_context(held(kept / "speed", "measuring speed"))

        @dataclass
        class Waits(Watched):
            """Has the other finish while it waits."""

            def note(self, message: str) -> None:
                super().note(message)
                shutil.copytree(tmp_path / "other", kept, dirs_exist_ok=True)
                other.close()

        view = Waits()
        run = Run(order, Kept(kept), view, Interrupt())
        run.measure()
    assert run.state.levels[0].rounds == done.state.levels[0].rounds
    assert not [step for step in view.steps if "round" in step]


@pytest.mark.parametrize("at", ["round 1 of 2: tg4", "chunk 2 of 3"])
def test_a_file_that_is_replaced_meanwhile_is_told(
    levels: list[Path], tmp_path: Path, at: str
) -> None:
    paths = copied(levels[:2], tmp_path)

    def replace_it(text: str) -> None:
        if text.startswith("b-copy") and at in text:
            fresh = tmp_path / "fresh"
            shutil.copy(levels[2], fresh)
            fresh.replace(paths[1])

    order = order_of(paths)
    found = of(measured(order, tmp_path / "kept", Watched(at_step=replace_it)), "b-copy")
    assert found.problem == f"{paths[1]}: changed while it was measured; run the command again"
    assert of(measured(order, tmp_path / "kept"), "b-copy").problem == ""


def test_who_is_the_reference_and_who_a_copy_is_told(levels: list[Path], tmp_path: Path) -> None:
    view = Watched()
    settings = replace(SETTINGS, tests=())
    measured(order_of(levels, reference=None, settings=settings), tmp_path / "kept", view)
    assert view.notes == [
        "reference: a-whale, the most bits per weight",
        "a-whale and b-copy are the same bytes",
    ]


def test_until_waits_for_nothing_where_a_level_is_alone(levels: list[Path], tmp_path: Path) -> None:
    settings, view = replace(SETTINGS, tests=(), chunks=0, until=1e-9), Watched()
    order = order_of(levels[:1], settings=settings, text=replace(TEXT, text=TEXT.text * 20))
    result = measured(order, tmp_path / "kept", view)
    assert (result.settings.chunks, result.settings.until) == (32, None)
    assert view.notes == [
        "--until waits for nothing: a-whale has no level beside it; at most 32 chunks are read"
    ]


def test_what_speed_has_no_room_for_is_told_by_its_options(
    levels: list[Path], tmp_path: Path
) -> None:
    deep = replace(SETTINGS, tests=(SpeedTest(10**9, 0),))
    with pytest.raises(DoesNotFit) as caught:
        measured(order_of(levels[:1], settings=deep), tmp_path / "kept")
    assert "--n-ctx" not in str(caught.value)
    assert "-p, -n and -d of " in str(caught.value)


def test_answers_that_were_given_are_not_asked_for_again(
    levels: list[Path], tmp_path: Path
) -> None:
    prompts = asked(*(f'{{"prompt": "the {word}"}}' for word in ("whale", "sea", "end")))
    settings = replace(SETTINGS, tests=())
    order = order_of(levels[:1], text=None, settings=settings, prompts=prompts, max_tokens=4)
    whole = Run(order, Kept(tmp_path / "other"), Watched(), Interrupt())
    whole.measure()

    interrupt, kept = Interrupt(), tmp_path / "kept"
    stopped = Run(order, Kept(kept), Watched(at_step=stopping(interrupt, "answer 2")), interrupt)
    with pytest.raises(Interrupted):
        stopped.measure()
    assert stopped.state.levels[0].answers is None

    view = Watched()
    again = Run(order, Kept(kept), view, Interrupt())
    again.measure()
    assert [step for step in view.steps if "answer" in step] == ["a-whale: answer 3 of 3"]
    assert again.state.levels[0].answers == whole.state.levels[0].answers


def stopping(interrupt: Interrupt, at: str) -> Callable[[str], None]:
    def at_step(text: str) -> None:
        if at in text:
            interrupt.set(signal.SIGINT)

    return at_step


def asked(*lines: str) -> tuple[Asked, ...]:
    found = read_lines("\n".join(lines).encode().splitlines(keepends=True))
    return tuple(line for line in found if isinstance(line, Asked))


def test_answers_are_compared(levels: list[Path], tmp_path: Path) -> None:
    prompts = asked('{"prompt": "the whale"}', '{"prompt": "the sea", "max_tokens": 2}')
    order = order_of(levels, settings=replace(SETTINGS, tests=()), prompts=prompts, max_tokens=6)
    result = measured(order, tmp_path / "kept")

    copy = of(result, "b-copy").answers
    assert copy is not None
    assert copy.first_difference == (None, None)


def test_until_reads_no_more_than_it_must(levels: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, tests=(), chunks=0, until=1.0)
    result = measured(order_of(levels, settings=settings), tmp_path / "kept")

    assert [q.n_chunks for level in result.levels if (q := level.quality)] == [8, 8, 8]
    assert result.settings.chunks > 8


def test_until_reads_on_where_it_must(levels: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, tests=(), chunks=20, until=1e-9)
    result = measured(order_of(levels, settings=settings), tmp_path / "kept")
    other, copy = of(result, "c-other").quality, of(result, "b-copy").quality

    assert other is not None
    assert copy is not None
    assert (copy.n_chunks, other.n_chunks) == (8, 20)


def test_tests_that_are_too_deep_are_told(levels: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, tests=(PP, SpeedTest(0, 4, 600)))
    view = Watched()
    result = measured(order_of(levels[:1], text=None, settings=settings), tmp_path / "kept", view)

    assert [one.test for one in of(result, "a-whale").speeds] == [PP]
    assert view.notes == ["left out: tg4 @ d600; the model was trained on 512 tokens"]


def test_a_file_is_known_by_its_bytes_alone(levels: list[Path], tmp_path: Path) -> None:
    """A manifest's hash is of what was once put there; another may be in its place since."""
    entrants = order_of(levels[:1]).entrants
    stored = [replace(e, file=replace(e.file, sha256="ab" * 32)) for e in entrants]
    settings = replace(SETTINGS, tests=())
    result = measured(order_of(levels[:1], entrants=stored, settings=settings), tmp_path / "kept")

    own = hashlib.sha256(levels[0].read_bytes()).hexdigest()
    assert of(result, "a-whale").sha256 == own


def test_a_file_that_cannot_be_read_is_listed(levels: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken-Q4_0.gguf"
    broken.write_bytes(b"GGUF")
    result = measured(order_of([*levels[:1], broken], reference=None), tmp_path / "kept")

    problem = next(level.problem for level in result.levels if level.problem)
    assert "broken-Q4_0.gguf" in problem
    assert result.reference == "a-whale"


@dataclass
class Spoils(Watched):
    """Has a file be none any more once a step says ``at``."""

    path: Path = Path()
    at: str = ""

    def step(self, text: str, weight: float = 1.0) -> None:
        super().step(text, weight)
        if self.at in text:
            self.path.unlink(missing_ok=True)


def copied(levels: list[Path], folder: Path) -> list[Path]:
    """That may be spoilt."""
    return [Path(shutil.copy(path, folder / path.name)) for path in levels]


@pytest.mark.parametrize("at", ["b-copy, round 2", "c-other, round 2 of 2: tg"])
def test_where_the_reference_fails_the_next_best_takes_its_place(
    levels: list[Path], tmp_path: Path, at: str
) -> None:
    paths = copied(levels, tmp_path)
    view = Spoils(path=paths[0], at=at)
    result = measured(order_of(paths, reference=None), tmp_path / "kept", view)

    assert "a-whale.gguf" in of(result, "a-whale").problem
    assert len(of(result, "a-whale").speeds[0].tps) >= 1
    assert result.reference == "b-copy"
    other = of(result, "c-other").quality
    assert other is not None
    assert other.n_chunks == 3
    assert "b-copy is the reference" in view.notes[-1]


def test_a_named_reference_that_fails_is_an_error_after_what_is_measured(
    levels: list[Path], tmp_path: Path
) -> None:
    paths = copied(levels, tmp_path)
    view = Spoils(path=paths[0], at="c-other, round 2 of 2: tg")
    run = Run(order_of(paths), Kept(tmp_path / "kept"), view, Interrupt())
    with pytest.raises(FwlocalError, match="a-whale, the reference"):
        run.measure()

    assert len(of(run.result(), "c-other").speeds[0].tps) == 2


@pytest.mark.parametrize("at", ["round 1 of 2: loading", "the reference: loading"])
def test_where_every_level_fails_that_is_an_error(
    levels: list[Path], tmp_path: Path, at: str
) -> None:
    paths = copied(levels[:1], tmp_path)
    view = Spoils(path=paths[0], at=at)
    with pytest.raises(FwlocalError, match="no level could be measured; a-whale"):
        measured(order_of(paths), tmp_path / "kept", view)


def test_none_that_fits_is_an_error(levels: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, n_ctx=10**9)
    with pytest.raises(DoesNotFit):
        measured(order_of(levels, settings=settings), tmp_path / "kept")


def test_another_tokenizer_is_refused(levels: list[Path], tmp_path: Path) -> None:
    more = Shape().vocab_size + 1
    foreign = write_gguf(
        tmp_path / "foreign.gguf", Shape(vocab_size=more), extra_tokens=(("▁orca", -1.0, 1),)
    )
    with pytest.raises(UsageError, match=r"tokenizer \(\w{12}\) is not that of .* \(\w{12}\)"):
        measured(order_of([*levels[:1], foreign], reference="a-whale"), tmp_path / "kept")


def test_too_short_a_text_is_refused(levels: list[Path], tmp_path: Path) -> None:
    short = replace(TEXT, text="the whale")
    with pytest.raises(UsageError, match="too short"):
        measured(order_of(levels, text=short), tmp_path / "kept")


def test_wishes_choose_a_level_and_say_how_to_run_it(levels: list[Path], tmp_path: Path) -> None:
    result = measured(order_of(levels, wishes=Wishes(max_kld=1e-6)), tmp_path / "kept")

    assert result.verdict.label in {"a-whale", "b-copy"}
    assert result.verdict.command.startswith("fwlocal chat -m ")
    assert Path(result.verdict.command.split()[-1]).exists()
