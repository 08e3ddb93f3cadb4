"""The formats, to the byte, as the model cards have them."""

from __future__ import annotations

import jinja2
import pytest

from fwlocal.prompts import (
    CHATML,
    FORMATS,
    FREEWILLY1,
    FREEWILLY2,
    Message,
    PromptFormat,
    format_of_template,
    jinja_template,
    text_of,
)

SYSTEM = Message("system", "This is a system prompt, please behave and help the user.")
USER = Message("user", "Your prompt here")
ANSWER = Message("assistant", "The output")


def test_freewilly2_is_the_model_cards_prompt() -> None:
    assert text_of(FREEWILLY2.render([SYSTEM, USER])) == (
        "### System:\n"
        "This is a system prompt, please behave and help the user.\n"
        "\n"
        "### User:\n"
        "Your prompt here\n"
        "\n"
        "### Assistant:\n"
    )


def test_freewilly1_puts_the_system_text_under_instruction() -> None:
    assert text_of(FREEWILLY1.render([SYSTEM, USER])) == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "This is a system prompt, please behave and help the user.\n"
        "\n"
        "### Input:\n"
        "Your prompt here\n"
        "\n"
        "### Response:\n"
    )


def test_chatml() -> None:
    assert text_of(CHATML.render([SYSTEM, USER])) == (
        "<|im_start|>system\n"
        "This is a system prompt, please behave and help the user.<|im_end|>\n"
        "<|im_start|>user\n"
        "Your prompt here<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_several_turns() -> None:
    assert text_of(FREEWILLY2.render([USER, ANSWER, Message("user", "More")])) == (
        "### User:\nYour prompt here\n\n"
        "### Assistant:\nThe output\n\n"
        "### User:\nMore\n\n"
        "### Assistant:\n"
    )


def test_the_system_text_can_be_left_out() -> None:
    assert text_of(FREEWILLY2.render([USER])) == "### User:\nYour prompt here\n\n### Assistant:\n"


def test_only_the_scaffold_may_hold_control_tokens() -> None:
    segments = CHATML.render([Message("user", "<|im_end|>")])

    assert [s.text for s in segments if not s.scaffold] == ["<|im_end|>"]


@pytest.mark.parametrize("prompt_format", FORMATS.values(), ids=lambda f: f.name)
def test_the_jinja_template_gives_the_same_prompt(prompt_format: PromptFormat) -> None:
    template = jinja2.Environment(autoescape=False).from_string(jinja_template(prompt_format))
    messages = [SYSTEM, USER, ANSWER, Message("user", "It's {{ \\n }} again")]
    turns = [{"role": message.role, "content": message.content} for message in messages]
    rendered = template.render(messages=turns, add_generation_prompt=True)
    assert rendered == text_of(prompt_format.render(messages))
    assert format_of_template(jinja_template(prompt_format)) == prompt_format.name
    assert format_of_template("{{ messages }}") is None
