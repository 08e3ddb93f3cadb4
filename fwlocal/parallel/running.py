"""An answer on its way: where it is computed, and how long that takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fwlocal import llama
from fwlocal.answer import Answer, Result, Timings
from fwlocal.parallel.job import Job


@dataclass
class Running:
    """A job in a lane, whose cache holds ``n_cached`` tokens; ``prefill_s`` are the seconds that
    its prompt took. Its last token is the next to evaluate."""

    job: Job
    lane: int
    sampler: llama.Sampler
    answer: Answer
    started: float
    n_cached: int
    reused: int
    prefill_s: float
    ttft_s: float = 0.0

    @property
    def next_token(self) -> llama.NextToken:
        """What is to be evaluated next."""
        return llama.NextToken(self.lane, self.answer.tokens[-1], self.n_cached)

    def take(self, token: int, model: llama.Model) -> None:
        """Add a token to the answer."""
        self.answer.take(token, model)
        if self.answer.n_tokens == 1:
            self.ttft_s = time.perf_counter() - self.started

    def result(self, model: llama.Model, load_s: float) -> Result:
        """The whole answer. Its decode speed is its own; several run beside it."""
        answer, job = self.answer, self.job
        answer.end()
        decode_s = max(time.perf_counter() - self.started - self.ttft_s, 0.0)
        return Result(
            text=answer.text,
            tokens=answer.spoken_tokens(model),
            finish_reason=answer.finish_reason or "interrupt",
            prompt_tokens=len(job.tokens),
            completion_tokens=answer.n_tokens,
            reused_tokens=self.reused,
            seed=job.sampling.seed or 0,
            timings=Timings(
                load_s=load_s,
                ttft_s=self.ttft_s,
                prefill_s=self.prefill_s,
                decode_s=decode_s,
                prefill_tps=_rate(len(job.tokens) - self.reused, self.prefill_s),
                decode_tps=_rate(answer.n_tokens - 1, decode_s),
            ),
        )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
