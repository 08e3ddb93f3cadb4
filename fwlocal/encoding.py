"""A prompt's segments become token ids.

Text runs unbroken across segments, as the model saw it in training, and is cut only at the
scaffold's control tokens, the way llama.cpp itself cuts. A user's text is tokenized with special
parsing off, so that a ``</s>`` in it stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fwlocal.pieces import n_spelling, spelled
from fwlocal.prompts import Segment

# llama_token_attr; LSTRIP and RSTRIP drop the white space beside the token
_CONTROL, _USER_DEFINED, _LSTRIP, _RSTRIP = 1 << 3, 1 << 4, 1 << 7, 1 << 8


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
    """The ids of a whole prompt, with BOS exactly once where the file asks for one.

    A last segment that is no scaffold is an answer that goes on: alone its tokens may end in the
    middle of a character.
    """
    encoder = _Encoder(vocabulary, _scaffold_tokens(vocabulary, segments))
    for index, segment in enumerate(segments, 1):
        encoder.add(segment, is_last=index == len(segments))
    encoder.flush()
    ids, bos = encoder.ids, vocabulary.bos
    return [bos, *ids] if vocabulary.adds_bos and ids[:1] != [bos] else ids


def continuation(vocabulary: Vocabulary, text: str) -> list[int]:
    """The ids of text that follows text."""
    return _Encoder(vocabulary, frozenset()).continued(text)


def spells_control(vocabulary: Vocabulary, text: str) -> bool:
    """Whether ``text`` would hold a control token if it were trusted."""
    return any(map(vocabulary.is_control, vocabulary.tokenize(text, special=True)))


def _scaffold_tokens(vocabulary: Vocabulary, segments: Sequence[Segment]) -> frozenset[int]:
    """The tokens that give the prompt its structure. Files mark most of them as control tokens
    and some, ``<|im_start|>`` among them, as user-defined ones, which are parsed in any text."""
    found = set()
    for segment in segments:
        if segment.scaffold:
            for token in vocabulary.tokenize(segment.text, special=True):
                flags = vocabulary.attributes(token)
                if flags & _CONTROL or (flags & _USER_DEFINED and vocabulary.piece(token).strip()):
                    found.add(token)
    return frozenset(found)


class _Encoder:
    """Joins segments into runs of text and tokenizes each run at once."""

    def __init__(self, vocabulary: Vocabulary, scaffold_tokens: frozenset[int]) -> None:
        self.vocabulary = vocabulary
        self.scaffold_tokens = scaffold_tokens
        self.ids: list[int] = []
        self.run = ""
        self.continues = False  # whether the run goes on behind a token of text

    def add(self, segment: Segment, *, is_last: bool) -> None:
        if segment.scaffold:
            self.add_scaffold(segment.text)
        else:
            self.add_text(self.add_spoken(segment, is_last=is_last))

    def add_scaffold(self, text: str) -> None:
        """Cut at the scaffold's tokens; the text between them joins the run."""
        for token in self.vocabulary.tokenize(text, special=True):
            if token in self.scaffold_tokens:
                before, spelled, after = text.partition(self.vocabulary.spelling(token))
                if spelled:
                    self.add_text(before)
                    self.add_token(token)
                    text = after
        self.add_text(text)

    def add_spoken(self, segment: Segment, *, is_last: bool) -> str:
        """Take over the segment's own tokens, as far as they spell its text; the rest of it."""
        pieces = [self.vocabulary.piece(token) for token in segment.tokens]
        text, _ = spelled(pieces)
        if not is_last or text != segment.text:
            pieces = pieces[: n_spelling(pieces, segment.text)]
            text, _ = spelled(pieces)
        if not pieces:
            return segment.text
        self.flush()
        self.ids += segment.tokens[: len(pieces)]
        self.continues = True
        return segment.text[len(text) :]

    def add_text(self, text: str) -> None:
        if not self.run and self.ids and self.vocabulary.attributes(self.ids[-1]) & _RSTRIP:
            text = text.lstrip()
        self.run += text

    def add_token(self, token: int) -> None:
        if self.vocabulary.attributes(token) & _LSTRIP:
            self.run = self.run.rstrip()
        self.flush()
        self.ids.append(token)
        self.continues = False

    def flush(self) -> None:
        if self.run:
            self.ids += self.tokenize(self.run, continues=self.continues)
            self.run = ""
            self.continues = True

    def tokenize(self, text: str, *, continues: bool) -> list[int]:
        """The ids of a run; a token of the scaffold that a user spelled is cut in two."""
        ids = self.continued(text) if continues else self.plain(text)
        for token in self.scaffold_tokens.intersection(ids):
            cut = text.index(self.vocabulary.spelling(token)) + 1
            head = self.tokenize(text[:cut], continues=continues)
            return head + self.tokenize(text[cut:], continues=True)
        return ids

    def plain(self, text: str) -> list[int]:
        return self.vocabulary.tokenize(text, special=False)

    def continued(self, text: str) -> list[int]:
        """The ids of text that follows text: without the space that SentencePiece puts first."""
        newline, ids = self.plain("\n"), self.plain("\n" + text)
        return ids[len(newline) :] if ids[: len(newline)] == newline else self.plain(text)
