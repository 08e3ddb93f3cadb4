"""Emphasis, code and links within a block, as it comes.

A marker that may open something is held back with what follows until its end is seen, at most for
a window of characters: what is not closed by then comes out as it is. It departs from CommonMark
where models mean something else: ``2*3*4`` and ``2**3`` are arithmetic, ``**重点：**`` closes
although punctuation comes before it, LaTeX keeps its backslashes, and HTML is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fwlocal.markdown.markers import is_word, may_close, may_open, ticks
from fwlocal.markdown.paper import Segment
from fwlocal.markdown.styles import CODE, EMPHASIS, FAINT, LINK, STRONG, STRUCK, joined

Sink = Callable[[str, str], None]

# Characters that a marker waits for its end: 15 to 20 tokens, a few seconds of a slow model.
EMPHASIS_WINDOW = 64
CODE_WINDOW = 120
LINK_WINDOW = 200

_SPECIAL = re.compile(r"[\\`*_~\[!<&$]")
_PUNCTUATION = set("!\"#$%&'*+,-./:;<=>?@[\\]^_`{|}~()")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "#39": "'", "nbsp": " "}
_ENTITY = re.compile(r"&(?:([a-z]{2,4}|#39);)?")
_ENTITY_BEGUN = re.compile(r"&(?:[a-z]{0,4}|#3?9?)$")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^\s<>]+|[\w.+-]+@[\w.-]+)>")
_AUTOLINK_BEGUN = re.compile(r"<[^\s<>]*$")
_LABEL = re.compile(r"\[((?:[^\[\]\\\n]|\\.|\[[^\[\]\n]*\])*)\]")
_LABEL_BEGUN = re.compile(r"\[(?:[^\[\]\\\n]|\\.|\[[^\[\]\n]*\])*(?:\\|\[[^\[\]\n]*)?$")
_TARGET = re.compile(
    r"\(<?([^\s()<>]+(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?: +(?:\"[^\"\n]*\"|'[^'\n]*'))?\)"
)
_DOLLARS = re.compile(r"\$[^\s$](?:[^$\n]*[^\s$\\])?\$(?!\d)")
_STYLES = {"**": STRONG, "__": STRONG, "*": EMPHASIS, "_": EMPHASIS, "~~": STRUCK}
_MATH_ENDS = {"(": "\\)", "[": "\\]"}


def segments(text: str, base: str, keeps_markers: bool) -> list[Segment]:
    """A whole text at once."""
    found: list[Segment] = []
    inline = Inline(lambda style, part: found.append((style, part)), base, keeps_markers)
    inline.feed(text)
    inline.end()
    return found


class Inline:
    """One block. ``sink`` takes styled text; ``keeps_markers`` where there are no colours."""

    def __init__(self, sink: Sink, base: str = "", keeps_markers: bool = False) -> None:
        self._sink = sink
        self._base = base
        self._keeps_markers = keeps_markers
        self._text = ""
        self._before = " "  # the character before self._text
        self._open: dict[str, bool] = {}  # markers of emphasis, and whether they are shown
        self._literal_end = ""  # of LaTeX
        self._is_whole = False

    def feed(self, text: str) -> None:
        """More of the block."""
        self._text += text
        while self._text and self._step():
            pass

    def end(self) -> None:
        """Nothing follows: what was held comes out."""
        self._is_whole = True
        self.feed("")

    def _step(self) -> bool:
        """Emit what is decided next; False when more text is needed to decide."""
        if self._literal_end:
            return self._literal()
        match = _SPECIAL.search(self._text)
        if match is None:
            return self._take(len(self._text))
        if match.start():
            return self._take(match.start())
        return _HANDLERS[self._text[0]](self)

    def _style(self) -> str:
        return joined(self._base, *(_STYLES[marker] for marker in self._open))

    def _take(self, count: int, shown: str | None = None, style: str | None = None) -> bool:
        """Emit the first ``count`` characters of the text, as ``shown``."""
        taken, self._text = self._text[:count], self._text[count:]
        self._before = taken[-1]
        shown = taken if shown is None else shown
        if shown:
            self._sink(self._style() if style is None else style, shown)
        return True

    def _lacks(self, count: int) -> bool:
        """Whether fewer characters are there, and more may come."""
        return not self._is_whole and len(self._text) < count

    def _literal(self) -> bool:
        end = self._text.find(self._literal_end)
        if end >= 0:
            count = end + len(self._literal_end)
            self._literal_end = ""
            return self._take(count)
        holds = not self._is_whole and self._text[-1] == self._literal_end[0]
        count = len(self._text) - holds
        return count > 0 and self._take(count)

    def _backslash(self) -> bool:
        if self._lacks(2):
            return False
        following = self._text[1:2]
        if following in _MATH_ENDS:
            self._literal_end = _MATH_ENDS[following]
            return self._take(2)
        if following == "\n":
            return self._take(1, "")  # a hard break; every newline is one
        if following and following in _PUNCTUATION and following not in ")]":
            return self._take(2, following)
        return self._take(1)

    def _dollar(self) -> bool:
        if self._lacks(2):
            return False
        following = self._text[1:2]
        if following == "$":
            self._literal_end = "$$"
            return self._take(2)
        if not following or following.isspace() or following.isdigit():
            return self._take(1)
        window = self._text[:EMPHASIS_WINDOW]
        line, newline, _ = window.partition("\n")
        match = _DOLLARS.match(line)
        is_full = bool(newline) or len(window) == EMPHASIS_WINDOW or self._is_whole
        if not is_full and (match is None or match.end() == len(line)):
            return False
        return self._take(match.end() if match else 1)

    def _code(self) -> bool:
        count = len(self._text) - len(self._text.lstrip("`"))
        if count > CODE_WINDOW:
            return self._take(CODE_WINDOW)
        if self._lacks(count + 1):
            return False
        window = self._text[:CODE_WINDOW]
        is_full = len(window) == CODE_WINDOW or self._is_whole
        match = ticks(count).search(window, count)
        if not is_full and (match is None or match.end() == len(window)):
            return False
        if match is None:
            return self._take(count)
        content = self._text[count : match.start()].replace("\n", " ")
        if content.strip() and content[0] == content[-1] == " ":
            content = content[1:-1]
        fence = "`" * count
        shown = f"{fence}{content}{fence}" if self._keeps_markers else content
        return self._take(match.end(), shown, joined(self._style(), CODE))

    def _entity(self) -> bool:
        if not self._is_whole and _ENTITY_BEGUN.match(self._text):
            return False
        match = _ENTITY.match(self._text)
        name = match[1] if match else None
        if match is None or name not in _ENTITIES:
            return self._take(1)
        return self._take(match.end(), _ENTITIES[name])

    def _angle(self) -> bool:
        window = self._text[:LINK_WINDOW]
        match = _AUTOLINK.match(window)
        if match:
            return self._take(match.end(), match[1], joined(self._style(), LINK))
        if self._lacks(LINK_WINDOW) and _AUTOLINK_BEGUN.match(window):
            return False
        return self._take(1)

    def _bang(self) -> bool:
        if self._lacks(2):
            return False
        return self._link() if self._text[1:2] == "[" else self._take(1)

    def _link(self) -> bool:
        """``[text](target)``, with ``!`` before it for an image."""
        at = 1 if self._text[0] == "!" else 0
        window = self._text[:LINK_WINDOW]
        more = self._lacks(LINK_WINDOW)
        label = _LABEL.match(window, at)
        if label is None:
            waits = more and _LABEL_BEGUN.match(window, at) is not None
            return not waits and self._take(at + 1)
        following = window[label.end() : label.end() + 1]
        target = _TARGET.match(window, label.end())
        if target is None:
            rest = window[label.end() :]
            waits = more and (not following or (following == "(" and "\n" not in rest))
            return not waits and self._take(at + 1)
        style = joined(self._style(), LINK)
        for part_style, part in segments(label[1], style, self._keeps_markers):
            self._sink(part_style, part)
        if target[1] != label[1]:
            if label[1]:
                self._sink(self._style(), " ")
            self._sink(joined(self._style(), FAINT), f"({target[1]})")
        return self._take(target.end(), "")

    def _emphasis(self) -> bool:
        char = self._text[0]
        run = len(self._text) - len(self._text.lstrip(char))
        if run > EMPHASIS_WINDOW:
            return self._take(EMPHASIS_WINDOW)
        if self._lacks(run + 1):
            return False
        after = self._text[run : run + 1] or " "
        left = self._close(char, run, after)
        return left == 0 or self._open_or_take(char, left, after)

    def _close(self, char: str, run: int, after: str) -> int:
        """End what the run ends; how much of the run is left."""
        if self._before.isspace() or (char == "_" and is_word(after)):
            return run
        for marker in (char * 2, char):
            if marker in self._open and run >= len(marker):
                is_shown = self._open[marker]
                style = self._style()
                del self._open[marker]
                before = self._before
                self._take(len(marker), marker if is_shown else self._kept(marker), style)
                self._before = before
                run -= len(marker)
        if not run:
            self._before = char
        return run

    def _kept(self, marker: str) -> str:
        return marker if self._keeps_markers and marker == "~~" else ""

    def _open_or_take(self, char: str, run: int, after: str) -> bool:
        if not may_open(char, run, self._before, after):
            return self._take(run)
        closes = self._closes(char, run)
        if closes is None and self._lacks(run + EMPHASIS_WINDOW):
            return False
        if closes is None and len(self._text) >= run + EMPHASIS_WINDOW:
            is_shown = True  # too long to wait for its end: the marker is seen, its effect too
        elif closes:
            is_shown = False
        else:
            return self._take(run)
        markers = [char * 2] * (run >= 2) + [char] * (run % 2)
        style = self._style()
        for marker in markers:
            self._open[marker] = is_shown
            self._take(len(marker), marker if is_shown else self._kept(marker), style)
        return True

    def _closes(self, char: str, run: int) -> bool | None:
        """Whether what a run opens is closed; None where that is not seen in the window."""
        window = self._text[: run + EMPHASIS_WINDOW]
        is_end = self._is_whole and len(self._text) <= len(window)
        decides = is_end or len(window) == run + EMPHASIS_WINDOW
        pattern = re.compile(rf"\\.|`+|{re.escape(char)}+", re.DOTALL)
        at = run
        while match := pattern.search(window, at):
            at = match.end()
            if at == len(window) and not is_end:
                return None
            if match[0][0] == "`":
                closing = ticks(at - match.start()).search(window, at)
                if not decides and (closing is None or closing.end() == len(window)):
                    return None
                at = closing.end() if closing else at
            elif match[0][0] == char and may_close(window, match.start(), at, run):
                return True
        return None


_HANDLERS: dict[str, Callable[[Inline], bool]] = {
    "\\": Inline._backslash,
    "`": Inline._code,
    "*": Inline._emphasis,
    "_": Inline._emphasis,
    "~": Inline._emphasis,
    "[": Inline._link,
    "!": Inline._bang,
    "<": Inline._angle,
    "&": Inline._entity,
    "$": Inline._dollar,
}
