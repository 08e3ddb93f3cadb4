"""A run of the benchmark: who fits, speed in rounds, quality in blocks, answers, and the result.

One process, and one model in memory at a time. Whatever is measured is kept at once, so that a run
that was stopped goes on; ``Run.result`` is what is known so far, at any time.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from fwlocal import llama
from fwlocal.bench import answers, remarks, rounds, speed
from fwlocal.bench.entrants import choose_reference
from fwlocal.bench.kept import Kept
from fwlocal.bench.machine import machine_facts
from fwlocal.bench.opening import plan_level
from fwlocal.bench.order import DEFAULT_CHUNKS, Keys, Order
from fwlocal.bench.progress import View
from fwlocal.bench.reading import Reading
from fwlocal.bench.result import BenchResult, LevelResult, TextFacts
from fwlocal.bench.state import Level, State
from fwlocal.bench.summary import level_result, summary
from fwlocal.bench.text import Text, bos_of, check_same_tokenizer, chunks_of, tokens_of
from fwlocal.bench.unchanged import check_unchanged, stamps_of
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.model_hash import sha256_of_model

ANSWERING = 500.0  # the work of an answer, in tokens prefilled, about


class Run:
    """``order``, to be measured; what was measured before is taken from ``kept``."""

    def __init__(self, order: Order, kept: Kept, view: View, interrupt: Interrupt) -> None:
        self.order, self._kept, self._view, self._interrupt = order, kept, view, interrupt
        levels = [Level(entrant) for entrant in order.entrants]
        machine = machine_facts(order.options.n_threads)
        self.state = State(machine, levels, order.unreadable)
        self._keys = Keys(order, machine, llama.build_info())
        self._is_whole = False

    def measure(self) -> None:
        """Do all of it. Raises Interrupted, after which ``result`` has what is whole; DoesNotFit
        where no level fits, UsageError for levels of other tokenizers or too short a text,
        FwlocalError where every level fails, or the reference that was named."""
        self._prepare()
        state = self.state
        reading = self._reading()
        order = self.order
        prompts = self._prompts()
        if order.fresh:
            rounds.forget(order, state, self._keys, self._kept)
        rounds.recall(order, state, self._keys, self._kept)
        if reading is not None:
            reading.recall()
        self._tell_what_is_known(reading, len(prompts))
        view, interrupt = self._view, self._interrupt
        rounds.run(order, state, self._keys, self._kept, view, interrupt, self._finished)
        self._read(reading)
        if prompts:
            self._answer(prompts)
        if self._kept.problem:
            self._view.note(self._kept.problem)
        if not state.sound:
            first = state.levels[0]
            raise FwlocalError(f"no level could be measured; {first.label}: {first.problem}")
        self._is_whole = True

    def result(self) -> BenchResult:
        """What is known; no level is recommended before ``measure`` has come to its end."""
        return summary(self.order, self.state, self._command, is_whole=self._is_whole)

    def _prepare(self) -> None:
        """Which levels fit, and the hashes of their files; and the reference."""
        order, state = self.order, self.state
        for level in state.levels:
            self._view.step(f"{level.label}: planning", 0)
            try:
                self._plan(level)
            except DoesNotFit as error:
                level.problem = f"does not fit: {error}"
        if not state.sound:
            raise DoesNotFit(state.levels[0].problem.removeprefix("does not fit: "))
        chosen = choose_reference([level.entrant for level in state.sound], order.reference)
        state.reference = next(level for level in state.sound if level.entrant is chosen)
        seen: list[str] = []
        for level in state.sound:
            check_same_tokenizer(chosen, level.entrant)
        for level in state.sound:
            level.sha256 = self._hash(level)
            level.n_copies_before = seen.count(level.sha256)
            seen.append(level.sha256)

    def _remark(self) -> None:
        """On who takes part."""
        order, state = self.order, self.state
        entrants = [level.entrant for level in state.sound]
        chosen = state.reference
        is_free = order.reference is None and len(entrants) > 1 and (order.text or order.prompts)
        found = [
            remarks.why_reference(chosen.entrant, entrants) if chosen and is_free else "",
            remarks.same_bytes({level.label: level.sha256 for level in state.sound}),
            remarks.fallen_back(entrants),
        ]
        for line in filter(None, found):
            self._view.note(line)

    def _tell_what_is_too_deep(self) -> None:
        first = self.state.sound[0]
        tests, header = self.order.settings.tests, first.entrant.header
        if left := ", ".join(test.name for test in tests if test not in first.tests):
            trained = header.number("{arch}.context_length")
            self._view.note(f"left out: {left}; the model was trained on {trained} tokens")

    def _read(self, reading: Reading | None) -> None:
        """Quality, if ``reading`` is to measure it; anew where the reference fails, or has."""
        state = self.state
        while state.sound:
            if state.reference in state.sound and (reading is None or reading.run()):
                return
            if state.sound:
                self._replace_reference()
                reading = self._reading()
                if reading is not None:
                    reading.recall()

    def _replace_reference(self) -> None:
        """By the next best. Raises FwlocalError where one was named, and no other is meant."""
        state, failed = self.state, self.state.reference
        if failed is not None and self.order.reference is not None:
            raise FwlocalError(f"{failed.label}, the reference: {failed.problem}")
        chosen = choose_reference([level.entrant for level in state.sound])
        state.reference = next(level for level in state.sound if level.entrant is chosen)
        for level in state.levels:
            level.scores = []
        if failed is not None:
            self._view.note(f"{failed.label}: {failed.problem}; {chosen.label} is the reference")

    def _plan(self, level: Level) -> None:
        entrant, settings = level.entrant, self.order.settings
        level.tests = speed.possible(settings.tests, entrant.header)
        of_speed = speed.needed_n_ctx(level.tests) if level.tests else 0
        n_ctx = max(of_speed, settings.n_ctx)
        try:
            plan = plan_level(entrant, self.order.options, n_ctx, self._interrupt).plan
        except DoesNotFit as error:
            is_of_speed = self.order.text is None or of_speed > settings.n_ctx
            raise DoesNotFit(rounds.advised(str(error)) if is_of_speed else str(error)) from error
        level.n_gpu_layers = plan.n_gpu_layers

    def _hash(self, level: Level) -> str:
        def progress(_: float) -> None:
            if self._interrupt.is_set():
                raise Interrupted(exit_code=self._interrupt.exit_code)

        self._view.step(f"{level.label}: hashing the file", 0)
        # What a manifest says may be of another file, of the same size: levels of one model are.
        file = replace(level.entrant.file, sha256=None)
        level.stamps = stamps_of(file.path)
        found = sha256_of_model(file, level.entrant.header, progress)
        if found is None:
            raise FwlocalError(f"{file.path}: cannot be read any more")
        check_unchanged(file.path, level.stamps)
        return found

    def _reading(self) -> Reading | None:
        """What measures quality, if that is asked for."""
        state, text = self.state, self.order.text
        if text is None or state.reference is None:
            return None
        self._see_what_to_wait_for()
        chunks = self._chunks(state.reference, text)
        return Reading(
            self.order,
            state,
            state.reference,
            text,
            chunks,
            self._keys,
            self._kept,
            self._view,
            self._interrupt,
            self._finished,
        )

    def _see_what_to_wait_for(self) -> None:
        """A level alone has no error that would become small."""
        settings = self.order.settings
        if settings.until is None or len(self.state.sound) > 1:
            return
        n_chunks = settings.chunks or DEFAULT_CHUNKS
        self.order = replace(self.order, settings=replace(settings, until=None, chunks=n_chunks))
        self._view.note(
            f"--until waits for nothing: {self.state.sound[0].label} has no level beside it; at "
            f"most {n_chunks} chunks are read"
        )

    def _chunks(self, reference: Level, text: Text) -> list[tuple[int, ...]]:
        """The text, cut; ``settings.chunks`` says how many of them there are, from then on."""
        settings = self.order.settings
        vocabulary = llama.Model(reference.entrant.file.path, llama.LoadOptions(vocab_only=True))
        try:
            tokens = tokens_of(vocabulary, text)
            chunks = chunks_of(tokens, settings.n_ctx, bos_of(vocabulary))
        finally:
            vocabulary.close()
        chunks = chunks[: settings.chunks] if settings.chunks else chunks
        self.order = replace(self.order, settings=replace(settings, chunks=len(chunks)))
        self.state.text = TextFacts(text.name, text.sha256, len(tokens))
        return chunks

    def _prompts(self) -> tuple[answers.Prompt, ...]:
        order, reference = self.order, self.state.reference
        if not order.prompts or reference is None:
            return ()
        name = str(order.prompts_path)
        prompts = answers.prompts_of(order.prompts, reference.entrant, order.options, name=name)
        for level in self.state.sound:
            key = self._keys.answers(level, prompts)
            if order.fresh:
                self._kept.forget(key)
            known = self._kept.answers(key) or ()
            level.answers = known if len(known) == len(prompts) else None
        return prompts

    def _tell_what_is_known(self, reading: Reading | None, n_prompts: int) -> None:
        state = self.state
        self._remark()
        for level in state.levels:
            self._finished(level)
        known = [level for level in state.sound if level.rounds or level.scores or level.answers]
        n_unanswered = sum(level.answers is None for level in state.sound) if n_prompts else 0
        work = sum(rounds.work(self.order, level) for level in state.sound)
        work += reading.work() if reading is not None else 0
        work += ANSWERING * n_prompts * n_unanswered
        if known and not work:
            self._view.note("all of it was measured before (--fresh measures again)")
        elif known:
            names = ", ".join(level.label for level in known)
            self._view.note(f"part of it was measured before: {names} (--fresh measures again)")
        if line := rounds.apart(self.order, state.sound):
            self._view.note(line)
        self._tell_what_is_too_deep()
        self._view.expect(work)

    def _answer(self, prompts: tuple[answers.Prompt, ...]) -> None:
        """Every level's answers, where they are not known."""
        order, n_all = self.order, len(prompts)
        for level in [level for level in self.state.sound if level.answers is None]:
            self._view.step(f"{level.label}: loading", rounds.LOADING)
            key = self._keys.answers(level, prompts)
            found = list(self._kept.answers(key) or ())  # of a run that was stopped

            def on_answer(
                _: int,
                tokens: answers.Tokens,
                level: Level = level,
                key: str = key,
                found: list[answers.Tokens] = found,
            ) -> None:
                found.append(tokens)
                self._kept.put_answers(key, found)
                self._view.step(f"{level.label}: answer {len(found)} of {n_all}", ANSWERING)

            try:
                level.check_file()
                with answers.loaded(
                    level.entrant, order.options, notify=self._view.note, interrupt=self._interrupt
                ) as engine:
                    left = prompts[len(found) :]
                    answers.answers_of(engine, left, order.max_tokens, on_answer, self._interrupt)
            except Interrupted:
                raise
            except FwlocalError as error:
                level.problem = str(error)
                continue
            level.answers = tuple(found)
            self._finished(level)

    def _finished(self, level: Level) -> None:
        self._view.finished(level_result(level, self.state))

    def _command(self, level: LevelResult) -> str:
        """What runs a level."""
        file = next(e.file for e in self.order.entrants if e.label == level.label)
        name = str(file.path) if file.level is None else f"{file.name}:{file.level}"
        return f"fwlocal chat -m {shlex.quote(name)}"
