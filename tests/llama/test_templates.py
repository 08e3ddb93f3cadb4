"""Chat templates rendered as llama-cpp-python renders them, without bringing all of it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from fwlocal.errors import BadModelFile, UsageError
from fwlocal.llama import template_renderer
from fwlocal.llama.bindings import log

TURNS = [
    {"role": "system", "content": "Sing."},
    {"role": "user", "content": "Why, <b>é</b>?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "Then?"},
]
TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}{{ m.role + ': ' + m['content'] + eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    "  {% for m in messages %}\n    {% if loop.index > 2 %}{% break %}{% endif %}\n"
    "{{ m | tojson }}\n  {% endfor %}\n",
    "{% for m in messages %}{% generation %}{{ m.content | trim }}{% endgeneration %}{% endfor %}",
    "{% if tools %}tools{% endif %}{% if functions is none %}none{% endif %}{{ messages|length }}",
    "{{ messages | tojson(indent=1) }}{{ strftime_now('%Y') }}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}{{ messages[0]['content'][:2] }}{{ undefined_name }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_same_text_as_llama_cpp_pythons(template: str) -> None:
    module = importlib.import_module("llama_cpp.llama_chat_format")
    log.attach()  # that import took the log
    theirs = module.Jinja2ChatFormatter(template, eos_token="</s>", bos_token="<s>")

    ours = template_renderer(template, bos="<s>", eos="</s>")(TURNS)

    assert ours == theirs(messages=TURNS).prompt


def test_a_template_may_refuse() -> None:
    render = template_renderer("{{ raise_exception('no system text') }}", bos="", eos="")

    with pytest.raises(UsageError, match=r"refuses these messages \(no system text\)"):
        render([])


@pytest.mark.parametrize("template", ["{{ messages.append(1) }}", "{{ ''.__class__.mro() }}"])
def test_the_sandbox_holds(template: str) -> None:
    render = template_renderer(template, bos="", eos="")

    with pytest.raises(UsageError, match="refuses these messages"):
        render([])


def test_a_template_that_is_no_jinja() -> None:
    with pytest.raises(BadModelFile, match="is invalid"):
        template_renderer("{% for %}", bos="", eos="")


def test_neither_numpy_nor_the_rest_of_llama_cpp_python_is_brought() -> None:
    code = (
        "import sys\n"
        "from fwlocal.llama import template_renderer\n"
        "template_renderer('{{ messages }}', bos='', eos='')([])\n"
        "assert not {'numpy', 'llama_cpp.llama', 'diskcache'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
