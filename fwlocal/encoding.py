"""A prompt's segments become token ids.

Text runs unbroken across segments, as the model saw it in training, and is cut only at the
scaffold's control tokens, the way llama.cpp itself cuts. A user's text is tokenized with special
parsing off, so that a ``</s>`` in it stays text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from fwlocal.prompts import Segment

_LSTRIP, _RSTRIP = 1 << 7, 1 << 8  # llama_token_attr: white space beside the token is dropped


class Vocabulary(Protocol):
    """What of ``fwlocal.llama.Model`` is needed here."""

    bos: int
    adds_bos: bool

    def tokenize(self, text: str, *, special: bool) -> list[int]: ...
    def is_control(self, token: int) -> bool: ...
    def spelling(self, token: int) -> str: ...
    def piece(self, token: int) -> bytes: ...
    def attributes(self, token: int) -> int: ...


def encode(vocabulary: Vocabulary, segments: Sequence[Segment]) -> list[int]:
    """The ids of a whole prompt, with BOS exactly once where the file asks for one."""
    encoder = _Encoder(vocabulary)
    for segment in segments:
        encoder.add(segment)
    encoder.flush()
    ids, bos = encoder.ids, vocabulary.bos
    return [bos, *ids] if vocabulary.adds_bos and ids[:1] != [bos] else ids


def spells_control(vocabulary: Vocabulary, text: str) -> bool:
    """Whether ``text`` would hold a control token if it were trusted."""
    return any(map(vocabulary.is_control, vocabulary.tokenize(text, special=True)))


def _split_control(vocabulary: Vocabulary, text: str) -> Iterator[str | int]:
    """The control tokens in ``text`` as ids, and the text between them."""
    for token in vocabulary.tokenize(text, special=True):
        if vocabulary.is_control(token):
            before, spelled, after = text.partition(vocabulary.spelling(token))
            if spelled:
                yield from (before, token)
                text = after
    yield text


class _Encoder:
    """Joins segments into runs of text and tokenizes each run at once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.ids: list[int] = []
        self.run = ""
        self.continues = False  # whether the run goes on behind a token of text

    def add(self, segment: Segment) -> None:
        if segment.scaffold:
            for part in _split_control(self.vocabulary, segment.text):
                if isinstance(part, int):
                    self.add_control(part)
                else:
                    self.add_text(part)
        else:
            self.add_text(self.add_spoken(segment))

    def add_spoken(self, segment: Segment) -> str:
        """Take over the segment's own tokens, if they spell its text; the rest of that text."""
        spelled = b"".join(map(self.vocabulary.piece, segment.tokens)).decode("utf-8", "replace")
        if not segment.tokens or not segment.text.startswith(spelled):
            return segment.text
        self.flush()
        self.ids += segment.tokens
        self.continues = True
        return segment.text[len(spelled) :]

    def add_text(self, text: str) -> None:
        if not self.run and self.ids and self.vocabulary.attributes(self.ids[-1]) & _RSTRIP:
            text = text.lstrip()
        self.run += text

    def add_control(self, token: int) -> None:
        if self.vocabulary.attributes(token) & _LSTRIP:
            self.run = self.run.rstrip()
        self.flush()
        self.ids.append(token)
        self.continues = False

    def flush(self) -> None:
        if self.run:
            self.ids += self.tokenize_on() if self.continues else self.tokenize(self.run)
            self.run = ""
            self.continues = True

    def tokenize(self, text: str) -> list[int]:
        return self.vocabulary.tokenize(text, special=False)

    def tokenize_on(self) -> list[int]:
        """The ids of a run that follows text: without the space that SentencePiece puts first."""
        newline = self.tokenize("\n")
        ids = self.tokenize("\n" + self.run)
        return ids[len(newline) :] if ids[: len(newline)] == newline else self.tokenize(self.run)
