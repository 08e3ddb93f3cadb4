"""``--dry-run``: what each part of a prompt takes of the context, by the model's own vocabulary.

No weights are loaded. A part's count is of its text alone; what is left of the whole prompt's
tokens is the format's and the system text's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from fwlocal import llama
from fwlocal.encoding import encode
from fwlocal.errors import PromptTooLong
from fwlocal.formats import choose_format
from fwlocal.gguf import GGUFHeader
from fwlocal.library import Library
from fwlocal.loader import EngineOptions, open_file, renderer
from fwlocal.loader.options import request_of
from fwlocal.offload import default_n_ctx
from fwlocal.prompts import FORMATS, Message, Segment
from fwlocal.store import ModelFile
from fwlocal.terminal import inert

REST = "system text and format"


@dataclass(frozen=True)
class Part:
    """Something that goes into the prompt, and the text that it puts there."""

    name: str
    text: str


@dataclass(frozen=True)
class Target:
    """Which model is asked, and how; ``n_ctx`` None or 0 is all that it was trained on, and
    ``max_tokens`` None is any number."""

    model: str
    turns: tuple[Message, ...]
    system: str | None
    prompt_format: str | None
    raw: bool
    n_ctx: int | None
    max_tokens: int | None = None


@dataclass(frozen=True)
class Share:
    """The tokens of one part."""

    name: str
    tokens: int


@dataclass(frozen=True)
class Budget:
    """What the prompt takes of the context of ``n_ctx`` tokens; the shares add up to it.
    ``max_tokens`` are wanted of the answer."""

    model: str
    shares: tuple[Share, ...]
    prompt_tokens: int
    n_ctx: int
    max_tokens: int | None = None

    @property
    def fits(self) -> bool:
        """Whether an answer has room behind it."""
        return self.prompt_tokens < self.n_ctx


def budget(
    target: Target, parts: Sequence[Part], library: Library, notify: Callable[[str], None]
) -> Budget:
    """Count. Raises the errors of opening a model and of choosing its format."""
    file, header = open_file(target.model, library, notify)
    vocabulary = llama.Model(file.path, llama.LoadOptions(vocab_only=True))
    try:
        total = len(encode(vocabulary, _segments(target, file, header, vocabulary)))
        shares = [Share(p.name, len(vocabulary.tokenize(p.text, special=False))) for p in parts]
    finally:
        vocabulary.close()
    rest = total - sum(share.tokens for share in shares)
    shares.append(Share(REST, max(rest, 0)))
    return Budget(file.name, tuple(shares), total, _n_ctx(target, header), target.max_tokens)


def as_data(budget: Budget) -> dict[str, object]:
    """For ``--json``."""
    return {
        "model": budget.model,
        "parts": [asdict(share) for share in budget.shares],
        "prompt_tokens": budget.prompt_tokens,
        "n_ctx": budget.n_ctx,
        "fits": budget.fits,
    }


def lines(budget: Budget) -> str:
    """For people: a line for each part, then the sum."""
    rows = [(share.tokens, inert(share.name)) for share in budget.shares if share.tokens]
    left = budget.n_ctx - budget.prompt_tokens
    after = f"{left:,} are left for the answer" if budget.fits else "more than it holds"
    if budget.fits and left < (budget.max_tokens or 0):
        after += f", fewer than --max-tokens {budget.max_tokens:,}"
    rows.append((budget.prompt_tokens, f"in all, of a context of {budget.n_ctx:,}: {after}"))
    width = max(len("tokens"), *(len(f"{tokens:,}") for tokens, _ in rows))
    shown = [f"{tokens:>{width},}  {_share(tokens, budget)}  {name}\n" for tokens, name in rows]
    return f"{'tokens':>{width}}  context\n" + "".join(shown)


def check_fits(budget: Budget) -> None:
    """Raise PromptTooLong where the context cannot hold the prompt."""
    if not budget.fits:
        largest = max(budget.shares, key=lambda share: share.tokens)
        raise PromptTooLong(
            f"the prompt has {budget.prompt_tokens} tokens and the context holds {budget.n_ctx}; "
            f"the largest part is {largest.name}, with {largest.tokens}"
        )


def _n_ctx(target: Target, header: GGUFHeader) -> int:
    """All that the context can grow to. Raises UsageError for one that the model does not take."""
    if target.n_ctx:
        return request_of(EngineOptions(n_ctx=target.n_ctx), header).n_ctx
    return header.number("{arch}.context_length") or default_n_ctx(0)


def _share(tokens: int, budget: Budget) -> str:
    return f"{100 * tokens / budget.n_ctx:>6.1f}%"


def _segments(
    target: Target, file: ModelFile, header: GGUFHeader, vocabulary: llama.Model
) -> Sequence[Segment]:
    if target.raw:
        return [Segment(target.turns[0].content, scaffold=True)]
    chosen = choose_format(file, header, target.prompt_format)
    own = file.spec.system if file.spec and chosen in FORMATS else None
    system = own if target.system is None else target.system
    has_system = target.turns[0].role == "system" or not system
    head = () if has_system else (Message("system", system or ""),)
    return renderer(chosen, header, vocabulary)([*head, *target.turns])
