"""The prompt format ``gguf``: the Jinja chat template that a model file carries.

A template gives one string, in which a user's text and the template's control tokens look alike.
It is therefore rendered twice, once with marks in the messages' place, to tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fwlocal.errors import UsageError
from fwlocal.prompts import Message, Render, Segment, Turn, text_of

# Private-use characters: templates do not trim them, and no message is likely to hold them.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")


def template_format(
    render_turns: Callable[[list[Turn]], str], spells_control: Callable[[str], bool]
) -> Render:
    """A renderer of messages by a template.

    Raises UsageError when a message spells a control token and the template rewrites messages, so
    that the two cannot be told apart.
    """

    def render(messages: Sequence[Message]) -> tuple[Segment, ...]:
        whole = render_turns(_turns(messages, [message.content for message in messages]))
        marked = render_turns(_turns(messages, [_MARK.format(i) for i in range(len(messages))]))
        for change in (str, str.strip):  # most templates keep a message's text, some trim it
            segments = _segments(marked, messages, change)
            if text_of(segments) == whole:
                return segments
        if any(spells_control(message.content) for message in messages):
            raise UsageError(
                "a message spells a control token and the chat template in the file rewrites "
                "messages; name a --prompt-format"
            )
        return (Segment(whole, scaffold=True),)

    return render


def _turns(messages: Sequence[Message], contents: Sequence[str]) -> list[Turn]:
    pairs = zip(messages, contents, strict=True)
    return [{"role": message.role, "content": content} for message, content in pairs]


def _segments(
    marked: str, messages: Sequence[Message], change: Callable[[str], str]
) -> tuple[Segment, ...]:
    """Cut at the marks: scaffold at the even places, the number of a message at the odd ones."""
    segments = []
    for index, part in enumerate(_MARKS.split(marked)):
        if index % 2 == 0:
            segments.append(Segment(part, scaffold=True))
        elif int(part) < len(messages):
            message = messages[int(part)]
            segments.append(Segment(change(message.content), tokens=message.tokens))
    return tuple(segments)
