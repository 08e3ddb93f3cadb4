"""How each part of Markdown looks: SGR parameters of the terminal's own sixteen colours.

Without colours the markers that carry meaning stay: ``#`` before a heading, backticks around code,
``~~`` around what is struck out.
"""

from __future__ import annotations

STRONG = "1"
EMPHASIS = "3"
STRUCK = "9"
CODE = "36"
LINK = "4"
FAINT = "2"
MARKER = "2"
HEADINGS = ("1;4;34", "1;34", "1;36", "1", "1;2", "1;2")

BULLET, BULLET_PLAIN = "•", "-"
QUOTE, QUOTE_PLAIN = "│ ", "> "
RULE, RULE_PLAIN = "─", "-"
RULE_CELLS = 40


def joined(*styles: str) -> str:
    """Several styles at once."""
    return ";".join(style for style in styles if style)
