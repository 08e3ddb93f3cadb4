"""What the command line's shared options become: the objects that the rooms take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fwlocal.errors import BadGrammar, UsageError

if TYPE_CHECKING:
    from fwlocal.loader import EngineOptions

_SAMPLING = ("temp", "top_k", "top_p", "min_p", "repeat_penalty", "seed")
_ENGINE = (
    "n_ctx",
    "threads",
    "n_gpu_layers",
    "gpu_memory",
    "gpu_margin",
    "shrink_context",
    "workers",
    "flash_attn",
    "kv_type",
    "mmap",
    "mlock",
    "lookup",
    "lossless",
    "brief",
    "prefix_bytes",
    "prompt_format",
    "raw",
    "n_batch",
    "n_ubatch",
    "tuned",
)


def take_engine_options(options: dict[str, Any]) -> EngineOptions:
    """Take the options of a model's engine out of ``options``."""
    from fwlocal.loader import EngineOptions

    taken = {name: options.pop(name) for name in _ENGINE if name in options}
    n_threads, n_threads_batch = taken.pop("threads"), options.pop("threads_batch", None)
    return EngineOptions(n_threads=n_threads, n_threads_batch=n_threads_batch, **taken)


def take_sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Take what was given of SamplingParams' fields, the grammar included, out of ``options``.

    Raises UsageError and BadGrammar here, before a large model is loaded in vain.
    """
    from fwlocal.sampling import SamplingParams

    taken = {name: options.pop(name) for name in _SAMPLING}
    changes = {"temperature": taken.pop("temp"), **taken, "grammar": _take_grammar(options)}
    SamplingParams().updated(changes)
    return changes


def _take_grammar(options: dict[str, Any]) -> str | None:
    """The grammar, if one was given; a JSON schema is converted to one."""
    schema, grammar = options.pop("json_schema", None), options.pop("grammar", None)
    if schema is not None and grammar is not None:
        raise UsageError("--json-schema and --grammar exclude each other")
    path = schema or grammar
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadGrammar(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise BadGrammar(f"{path}: cannot be read: it is not UTF-8 text") from None
    if schema is None:
        return str(text)
    from fwlocal import llama

    try:
        return llama.json_schema_to_grammar(text)
    except BadGrammar as error:
        raise BadGrammar(f"{path}: {error}") from error
