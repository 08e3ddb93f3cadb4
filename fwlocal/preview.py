"""``fwlocal prompt``: the exact prompt that a text becomes, as text or as tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fwlocal import llama
from fwlocal.conversation import Conversation
from fwlocal.encoding import encode
from fwlocal.formats import choose_format
from fwlocal.loader import Library, open_file, renderer
from fwlocal.prompts import FORMATS, text_of


@dataclass(frozen=True)
class Question:
    """What is asked of which model; ``system`` None is the model's own, ``prompt_format`` too."""

    model: str
    text: str
    system: str | None
    prompt_format: str | None

    def conversation(self, own_system: str | None) -> Conversation:
        """The conversation that the question opens."""
        conversation = Conversation(own_system if self.system is None else self.system)
        conversation.ask(self.text)
        return conversation


def prompt_text(question: Question, library: Library, notify: Callable[[str], None]) -> str:
    """The prompt. A known model in a known format need not be on this disk for it."""
    spec = library.registry.models.get(question.model.partition(":")[0])
    if spec is not None:
        known = FORMATS.get(question.prompt_format or spec.prompt_format)
        if known is not None:
            return text_of(known.render(question.conversation(spec.system).messages))
    text, _ = _from_file(question, library, notify)
    return text


def token_lines(question: Question, library: Library, notify: Callable[[str], None]) -> str:
    """The prompt's tokens, one a line: its id and its piece."""
    _, lines = _from_file(question, library, notify)
    return lines


def _from_file(
    question: Question, library: Library, notify: Callable[[str], None]
) -> tuple[str, str]:
    """The prompt and its token lines, with the vocabulary of the model's file."""
    file, header = open_file(question.model, library, notify)
    chosen = choose_format(file, header, question.prompt_format)
    own_system = file.spec.system if file.spec and chosen in FORMATS else None
    vocabulary = llama.Model(file.path, llama.LoadOptions(vocab_only=True))
    segments = renderer(chosen, header, vocabulary)(question.conversation(own_system).messages)
    ids = encode(vocabulary, segments)
    lines = "".join(f"{token:>7}  {vocabulary.spelling(token)!r}\n" for token in ids)
    return text_of(segments), lines
