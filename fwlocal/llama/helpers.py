"""JSON schemas to grammars, as llama-cpp-python does it, and chat templates to text, by Jinja.

The first brings its whole package, and numpy, the second jinja2 alone: so they are imported when
they are needed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from fwlocal.errors import BadGrammar, BadModelFile, UsageError
from fwlocal.llama.bindings import log
from fwlocal.prompts import Turn

_OF_TOOLS = ("functions", "function_call", "tools", "tool_choice")  # of which there are none


def json_schema_to_grammar(schema: str) -> str:
    """The GBNF grammar of the JSON texts that obey ``schema``. Raises BadGrammar."""
    try:
        if not isinstance(json.loads(schema), dict):
            raise BadGrammar("the JSON schema is no object")
        converter = importlib.import_module("llama_cpp.llama_grammar")
        log.attach()  # that import took the log
        return str(converter.json_schema_to_gbnf(schema))
    except json.JSONDecodeError as error:
        raise BadGrammar(f"the JSON schema is no valid JSON: {error}") from error
    except RecursionError:
        raise BadGrammar("the JSON schema is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise BadGrammar(f"the JSON schema cannot be used: {error}") from error


def template_renderer(template: str, *, bos: str, eos: str) -> Callable[[list[Turn]], str]:
    """A file's Jinja ``tokenizer.chat_template`` as a function, in Jinja's sandbox.

    The function opens the assistant's turn at the end; it raises UsageError when the template
    refuses the turns. Raises BadModelFile for a template that is no valid Jinja.
    """
    jinja2 = importlib.import_module("jinja2")
    try:
        compiled = _sandbox().from_string(template)
    except jinja2.TemplateError as error:
        raise BadModelFile(
            f"the chat template in the file is invalid ({error}); name a --prompt-format"
        ) from error

    def render(turns: list[Turn]) -> str:
        try:
            return str(
                compiled.render(
                    messages=turns,
                    bos_token=bos,
                    eos_token=eos,
                    add_generation_prompt=True,
                    raise_exception=_refuse,
                    strftime_now=lambda form: datetime.now().strftime(form),
                    **dict.fromkeys(_OF_TOOLS),
                )
            )
        except Exception as error:  # a template may do anything
            raise UsageError(
                f"the chat template in the file refuses these messages ({error}); "
                'try --system "" or name a --prompt-format'
            ) from error

    return render


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _sandbox() -> Any:
    """What chat templates are written for: the environment of Hugging Face's Transformers
    (``chat_template_utils.py``), with its loop controls, its JSON, and its ``generation`` tag,
    which marks a span and changes nothing."""
    sandbox = importlib.import_module("jinja2.sandbox")
    ext = importlib.import_module("jinja2.ext")

    def parse(self: Any, parser: Any) -> Any:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    spans = type("Generation", (ext.Extension,), {"tags": {"generation"}, "parse": parse})
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[spans, ext.loopcontrols]
    )
    environment.filters["tojson"] = _as_json
    return environment


def _as_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
