"""Chatting by prompts: what an engine makes of messages, wherever it evaluates them.

A conversation whose last message is the assistant's asks for the rest of that answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from fwlocal.answer import Generation
from fwlocal.prompts import Message, as_messages
from fwlocal.sampling import SamplingParams


class Chatting(ABC):
    """``chat`` and ``count`` of an engine that has prompts; ``stop`` are its format's strings."""

    stop: tuple[str, ...]

    @abstractmethod
    def prompt_tokens(self, messages: Iterable[Message | dict[str, str]]) -> list[int]:
        """The ids of the prompt that asks for the answer to ``messages``, or for the rest of it."""

    @abstractmethod
    def generate(
        self,
        prompt: Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        said: str = "",
        may_shift: bool = False,
        logprobs: int = 0,
    ) -> Generation:
        """The continuation of a prompt's token ids.

        It ends at a token that ends an answer, at a ``stop`` string (never shown), after
        ``max_tokens`` or at the end of the context ("length"), or when ``interrupt`` is set.

        ``said`` is what the prompt ends with, if that is the answer's own beginning: a stop string
        may begin there, and a grammar holds from there. With ``may_shift`` a KV cache that holds
        the prompt with something more in between is shifted, where the model allows that, and not
        evaluated again. ``logprobs`` asks for those of each token, and of so many of the likeliest.
        """

    def count(self, messages: Iterable[Message | dict[str, str]]) -> int:
        """How many tokens the prompt has that asks for the answer to ``messages``."""
        return len(self.prompt_tokens(messages))

    def chat(
        self,
        messages: Iterable[Message | dict[str, str]],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        may_shift: bool = False,
        logprobs: int = 0,
    ) -> Generation:
        """The answer to a conversation, in the model's prompt format; where the last message is the
        assistant's, the rest of it. What that answer said before is not said again, also where it
        was cut in the middle of a character or of a stop string.

        Messages are Message or ``{"role": ..., "content": ...}``; the options are those of
        ``generate``. Raises PromptTooLong, UsageError and BadGrammar here, before anything is
        generated.
        """
        turns = as_messages(messages)
        goes_on = bool(turns) and turns[-1].role == "assistant"
        return self.generate(
            self.prompt_tokens(turns),
            sampling=sampling,
            max_tokens=max_tokens,
            stop=self.stop,
            said=turns[-1].content if goes_on else "",
            may_shift=may_shift,
            logprobs=logprobs,
        )
