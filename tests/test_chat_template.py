"""Templates: scaffold and content are told apart, whatever a template does to them."""

from __future__ import annotations

import pytest

from fwlocal import llama
from fwlocal.chat_template import template_format
from fwlocal.errors import BadModelFile, UsageError
from fwlocal.prompts import Message, Segment, text_of
from tests.conftest import TEMPLATE


def render(template: str, *messages: Message) -> tuple[Segment, ...]:
    turns = llama.template_renderer(template, bos="<s>", eos="</s>")
    return template_format(turns, lambda text: "</s>" in text)(messages)


def test_content_is_told_from_scaffold() -> None:
    segments = render(TEMPLATE, Message("user", "hi </s>"))

    assert text_of(segments) == "user: hi </s></s>assistant: "
    assert [s.text for s in segments if not s.scaffold] == ["hi </s>"]


def test_a_template_that_trims() -> None:
    trimming = TEMPLATE.replace("m['content']", "m['content'] | trim")

    segments = render(trimming, Message("user", "  hi  "))

    assert [s.text for s in segments if not s.scaffold] == ["hi"]


def test_a_template_that_rewrites_is_trusted_only_without_control_tokens() -> None:
    rewriting = TEMPLATE.replace("m['content']", "m['content'] | upper")

    assert render(rewriting, Message("user", "hi")) == (
        Segment("user: HI</s>assistant: ", scaffold=True),
    )
    with pytest.raises(UsageError, match="control token"):
        render(rewriting, Message("user", "hi </s>"))


def test_a_template_may_refuse() -> None:
    refusing = "{{ raise_exception('System role not supported') }}"

    with pytest.raises(UsageError, match=r"System role not supported.*--system"):
        render(refusing, Message("system", "x"))


def test_an_invalid_template() -> None:
    with pytest.raises(BadModelFile, match="chat template"):
        render("{% for %}")


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(UsageError):
        render("{{ ''.__class__.__mro__[1].__subclasses__() }}", Message("user", "x"))
