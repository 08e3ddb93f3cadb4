"""What could drive a terminal, or deceive its reader, is made visible or left out.

Control characters become one visible character each; so do the characters that turn the direction
of text around, by which a command can read otherwise than it runs, and lone surrogates, which no
file or terminal can take. Characters that show nothing and join nothing (zero-width spaces, tags,
soft hyphens) are left out, since what is copied should be what is seen. Joiners, marks and
variation selectors stay: scripts and emoji need them.
"""

from __future__ import annotations

import re

from fwlocal.terminal import inert

REPLACEMENT = "\ufffd"
_TURNING = "\u202a-\u202e\u2066-\u2069"
_SURROGATE = "\ud800-\udfff"
_UNSEEN = "\u00ad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_SUSPECT = re.compile(f"[{_TURNING}{_SURROGATE}{_UNSEEN}\u2028\u2029]")
_ANYTHING = re.compile(r"[^\n -~]")
_SEPARATORS = {"\u2028": "\n", "\u2029": "\n"}


def _harmless(match: re.Match[str]) -> str:
    found = match[0]
    if found in _SEPARATORS:
        return _SEPARATORS[found]
    return REPLACEMENT if re.match(f"[{_TURNING}{_SURROGATE}]", found) else ""


def clean(text: str) -> str:
    """``text`` without anything that acts; tabs and newlines stay."""
    if _ANYTHING.search(text) is None:
        return text
    return _SUSPECT.sub(_harmless, inert(text))


class Cleaner:
    """The same for text that comes in pieces; a carriage return before a newline is left out."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown of the text so far."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        text = text[: len(text) - len(self._held)]
        return clean(text.replace("\r\n", "\n") if "\r" in text else text)

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return clean(held)
