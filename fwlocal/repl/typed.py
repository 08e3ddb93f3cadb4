"""What was typed, and what is meant: text without damage, and text between triple quotes."""

from __future__ import annotations

QUOTES = '"""'


def clean(text: str) -> str:
    """``text`` as any file or model can take it: newlines alone at the ends of lines, and U+FFFD
    for what was no UTF-8 (which arrives as lone surrogates). Tabs and controls stay."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\r\n", "\n").replace("\r", "\n")


def is_open(text: str) -> bool:
    """Whether ``text`` begins with triple quotes and waits for those that end it: at the end of
    any line but the first, or anywhere in the first, which then is a line like others."""
    if not text.startswith(QUOTES):
        return False
    first, newline, rest = text[len(QUOTES) :].partition("\n")
    if QUOTES in first:
        return False
    return not (newline and rest.rstrip().endswith(QUOTES))


def unquoted(text: str) -> str:
    """What is meant: the text between triple quotes, where they enclose all of it. What begins with
    a slash there is no command; it gets a second one, which stands for that."""
    body = text.rstrip()
    is_quoted = body.startswith(QUOTES) and body.endswith(QUOTES) and len(body) >= 2 * len(QUOTES)
    if not is_quoted or is_open(text):
        return text
    inside = body[len(QUOTES) : -len(QUOTES)].removeprefix("\n").removesuffix("\n")
    return f"/{inside}" if inside.startswith("/") else inside
