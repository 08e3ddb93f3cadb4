"""A batch's line as a question to one model, with all that the line leaves to others.

Its fingerprint tells whether an answer that is there already is to the same question.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fwlocal.encoding import encode
from fwlocal.gguf import GGUFHeader
from fwlocal.llama import Model
from fwlocal.loader import default_sampling, renderer
from fwlocal.oneshot.batch_lines import Asked, Bad
from fwlocal.oneshot.record import Question
from fwlocal.parallel import Job
from fwlocal.prompts import FORMATS, Message, Render, Segment
from fwlocal.store import ModelFile

_DIGITS = 16  # of a SHA-256: enough that no two lines of a file have the same


@dataclass(frozen=True)
class Common:
    """What all lines have in common, where they say nothing else: as ``oneshot.Request``."""

    system: str | None
    max_tokens: int | None
    sampling: Mapping[str, Any]
    stop: tuple[str, ...]


class Asker:
    """Makes questions to the model ``file``, in ``prompt_format`` (None for raw prompts), and their
    tokens by its ``vocabulary``."""

    def __init__(
        self,
        file: ModelFile,
        header: GGUFHeader,
        prompt_format: str | None,
        vocabulary: Model,
        common: Common,
    ) -> None:
        spec = file.spec
        known = FORMATS.get(prompt_format or "")
        self._vocabulary, self._common = vocabulary, common
        self._format = prompt_format
        self._own_stop = known.stop if known else ()
        self._own_system = spec.system if spec and known else None
        self._own_max_tokens = spec.max_tokens if spec else None
        self._own_sampling = default_sampling(spec)
        self._render: Render = renderer(prompt_format, header, vocabulary)
        self._model = [file.name, file.level, header.file_size_bytes]

    def close(self) -> None:
        """Free the vocabulary; no more tokens then."""
        self._vocabulary.close()

    def question(self, asked: Asked) -> Question:
        """With everything; the seed None where nobody named one."""
        common = self._common
        sampling = self._own_sampling.updated({**_given(common.sampling), **asked.sampling})
        limits = (asked.max_tokens, common.max_tokens, self._own_max_tokens)
        return Question(
            messages=self._messages(asked),
            prompt_format=self._format,
            sampling=sampling,
            max_tokens=next((limit for limit in limits if limit is not None), None),
            stop=(*common.stop, *asked.stop),
        )

    def fingerprint(self, line: Asked | Bad) -> str:
        """Of a line: of all that its answer depends on."""
        if isinstance(line, Bad):
            return hashlib.sha256(line.raw).hexdigest()[:_DIGITS]
        question = asdict(self.question(line))
        for message in question["messages"]:
            del message["tokens"]
        data = json.dumps([self._model, question], sort_keys=True)
        return hashlib.sha256(data.encode()).hexdigest()[:_DIGITS]

    def tokens(self, question: Question) -> array[int]:
        """The prompt's."""
        if question.prompt_format is None:
            segments: tuple[Segment, ...] = (Segment(question.text, scaffold=True),)
        else:
            segments = tuple(self._render(list(question.messages)))
        return array("i", encode(self._vocabulary, segments))

    def job(self, key: int, question: Question, tokens: array[int]) -> Job:
        """To be answered by a pool; now it gets its seed."""
        stop = (*self._own_stop, *question.stop)
        return Job(key, tuple(tokens), question.sampling.seeded(), question.max_tokens, stop)

    def _messages(self, asked: Asked) -> tuple[Message, ...]:
        turns, common = asked.turns, self._common
        if self._format is None or turns[0].role == "system":
            return turns
        systems = (asked.system, common.system, self._own_system)
        system = next((text for text in systems if text is not None), None)
        return (Message("system", system), *turns) if system else turns


def _given(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}
