"""The colours of code, a line at a time.

pygments' lexers read a whole text; here each line is read once, with the states that the lines
before left, so that a long block costs no more per line than a short one. A comment that goes over
several lines is one regular expression in many lexers, and is followed here. A lexer that is no
state machine is asked for each line alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fwlocal.markdown.paper import Segment

if TYPE_CHECKING:
    from pygments.lexer import Lexer

MAX_ENTERED = 50
MAX_CELLS = 400  # a longer line is left without colours: some lexers are slow on it

# Some of pygments' hundreds of lexers never end on what they do not expect: these are tested.
_NAMES = (
    "ada asm bash bat batch c c# c++ clojure cmake common-lisp console cpp cs csharp css cu"
    " cuda cypher d dart diff docker dockerfile elixir elm erlang ex f90 fish fortran fsharp glsl"
    " go golang graphql groovy haskell hcl hs html http ini java javascript js json jsonc"
    " json5 jsx julia kotlin latex less lisp llvm lua make makefile markdown matlab md mysql"
    " nasm nginx nim nix objc objective-c objectivec ocaml octave pascal perl php pl"
    " plpgsql posh postgres postgresql powershell properties proto protobuf ps1 py py3 pycon"
    " python python3 r rb rs rst ruby rust sass scala scheme scss sh shell sql sqlite3 svelte"
    " swift systemverilog tcl terraform tex tf toml ts tsx typescript vb.net verilog vhdl vim vue"
    " xml yaml yml zig zsh"
)
LANGUAGES = frozenset(_NAMES.split())

_ALIASES = {"cc": "cpp", "jsonc": "json", "kt": "kotlin", "patch": "diff", "svelte": "html"}

_NAME = re.compile(r"[{.\s]*([\w+#-][\w+#.-]{0,39})")
_STYLES = {
    "Comment": "2;3",
    "Keyword": "35",
    "Name.Function": "34",
    "Name.Class": "1;34",
    "Name.Decorator": "33",
    "Name.Tag": "34",
    "Name.Attribute": "36",
    "Name.Builtin": "36",
    "Name.Exception": "31",
    "Literal.String": "32",
    "Literal.Number": "33",
    "Operator.Word": "35",
    "Generic.Inserted": "32",
    "Generic.Deleted": "31",
    "Generic.Heading": "1",
    "Generic.Subheading": "36",
    "Generic.Prompt": "2",
}
_COMMENTS = (("/*", "*/"), ("<!--", "-->"))
_COMMENT = "2;3"


def highlighter(info: str) -> Highlighter | None:
    """For the info string of a fence; None where it names no language that is known."""
    name = _NAME.match(info)
    language = _ALIASES.get(name[1].lower(), name[1].lower()) if name else ""
    if language not in LANGUAGES:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return Highlighter(get_lexer_by_name(language, stripnl=False, ensurenl=False))
    except ClassNotFound:
        return None


class Highlighter:
    """One block of code; ``lexer`` is pygments' for its language."""

    def __init__(self, lexer: Lexer) -> None:
        self._lexer = lexer
        self._tables = _tables(lexer)
        self._is_broken = False
        self._stack = ["root"]
        self._styles: dict[Any, str] = {}
        self._comment_end = ""  # of the comment that the line before left open
        self._comments = [pair for pair in _COMMENTS if _has_comment(lexer, *pair)]

    def line(self, text: str) -> list[Segment]:
        """The colours of the next line, which comes without its newline."""
        if len(text) > MAX_CELLS or self._is_broken:
            return [("", text)]
        done: list[Segment] = []
        if self._comment_end:
            end = text.find(self._comment_end)
            if end < 0:
                return [(_COMMENT, text)] if text else []
            end += len(self._comment_end)
            done, text = [(_COMMENT, text[:end])], text[end:]
            self._comment_end = ""
        try:
            styled = list(_merged(self._styled(text)))
        except Exception:  # a lexer's bug, of hundreds, is not the reader's: no colours then
            self._tables, self._is_broken = None, True
            styled = []
        is_same = "".join(part for _, part in styled) == text
        return done + (styled if is_same else [("", text)])  # the text is what counts

    def _styled(self, text: str) -> Iterator[Segment]:
        if self._tables is None:
            for _, token, part in self._lexer.get_tokens_unprocessed(text + "\n"):
                yield self._style(token), part.rstrip("\n")
            return
        for _, token, part in self._tokens(text + "\n", self._tables):
            yield self._style(token), part.rstrip("\n")

    def _tokens(self, text: str, tables: dict[str, Any]) -> Iterator[tuple[int, Any, str]]:
        """What the lexer's state machine says of a line; the states stay for the next."""
        from pygments.token import Token

        at = entered = 0
        while at < len(text):
            if entered > MAX_ENTERED:  # states that enter each other without reading anything
                self._stack = ["root"]
                yield at, Token.Text, text[at:]
                return
            table = tables.get(self._stack[-1], ())
            comment = self._opened_comment(text, at, table)
            if comment:
                yield at, Token.Comment, text[at:]
                self._comment_end = comment
                return
            for match_at, action, new_state in table:
                match = match_at(text, at)
                if match and (match.end() > at or new_state is not None):
                    yield from self._acted(match, action)
                    entered = entered + 1 if match.end() == at else 0
                    at = match.end()
                    self._stack = _entered(self._stack, new_state)
                    break
            else:
                if text[at] == "\n":
                    self._stack = ["root"]
                yield at, Token.Text, text[at]
                at += 1

    def _acted(self, match: Any, action: Any) -> Iterable[tuple[int, Any, str]]:
        from pygments.token import Token

        if action is None:
            return ()
        if isinstance(action, type(Token)):
            return ((match.start(), action, match.group()),)
        return list(action(self._lexer, match))

    def _opened_comment(self, text: str, at: int, table: Iterable[Any]) -> str:
        """The end of a comment that begins here and goes on after this line, or ""."""
        for start, end in self._comments:
            if text.startswith(start, at) and end not in text[at + 2 :]:
                closed = text + end
                for match_at, action, _ in table:
                    if match_at(closed, at):
                        return end if _is_comment(action) else ""
        return ""

    def _style(self, token: Any) -> str:
        if token not in self._styles:
            name = str(token).removeprefix("Token.")
            while name and name not in _STYLES:
                name = name.rpartition(".")[0]
            self._styles[token] = _STYLES.get(name, "")
        return self._styles[token]


def _tables(lexer: Lexer) -> dict[str, Any] | None:
    """The rules of a lexer by state, None where it keeps more than its state."""
    from pygments.lexer import ExtendedRegexLexer, RegexLexer

    if not isinstance(lexer, RegexLexer) or isinstance(lexer, ExtendedRegexLexer):
        return None
    tables: dict[str, Any] = getattr(lexer, "_tokens", {})
    return tables if "root" in tables else None


def _entered(stack: list[str], new_state: Any) -> list[str]:
    """The stack of states after a rule: a name, a count to leave, or several of them."""
    if new_state is None:
        return stack
    if isinstance(new_state, int):
        kept = len(stack) - abs(new_state)
        return stack[: max(1, kept)]
    for state in (new_state,) if isinstance(new_state, str) else new_state:
        if state == "#pop":
            stack = stack[:-1] if len(stack) > 1 else stack
        else:
            stack = [*stack, stack[-1] if state == "#push" else state]
    return stack[-200:]


def _has_comment(lexer: Lexer, start: str, end: str) -> bool:
    """Whether a language has comments of that kind over lines."""
    tokens = lexer.get_tokens_unprocessed(f"{start} a\nb {end}")
    return all(_is_comment(token) for _, token, part in tokens if part)


def _is_comment(token: Any) -> bool:
    from pygments.token import Comment

    comment: Any = Comment
    return isinstance(token, type(comment)) and token in comment


def _merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Neighbours of one style as one; spaces take the style before them."""
    style, text = "", ""
    for next_style, part in segments:
        if next_style == style or not part.strip():
            text += part
            continue
        if text:
            yield style, text
        style, text = next_style, part
    if text:
        yield style, text
