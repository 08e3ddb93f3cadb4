"""What llama-cpp-python does in Python: JSON schemas to grammars, chat templates to text.

Both bring its whole package with numpy and jinja2, so they are imported when they are needed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable

from fwlocal.errors import BadGrammar, BadModelFile, UsageError
from fwlocal.llama.bindings import log
from fwlocal.prompts import Turn


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
    """A file's Jinja ``tokenizer.chat_template`` as a function, by llama-cpp-python's sandbox.

    The function opens the assistant's turn at the end; it raises UsageError when the template
    refuses the turns. Raises BadModelFile for a template that is no valid Jinja.
    """
    chat_format = importlib.import_module("llama_cpp.llama_chat_format")
    log.attach()  # that import took the log
    jinja2 = importlib.import_module("jinja2")
    try:
        formatter = chat_format.Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)
    except jinja2.TemplateError as error:
        raise BadModelFile(
            f"the chat template in the file is invalid ({error}); name a --prompt-format"
        ) from error

    def render(turns: list[Turn]) -> str:
        try:
            return str(formatter(messages=turns).prompt)
        except Exception as error:  # a template may do anything
            raise UsageError(
                f"the chat template in the file refuses these messages ({error}); "
                'try --system "" or name a --prompt-format'
            ) from error

    return render
