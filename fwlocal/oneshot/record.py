"""The object that ``--json`` prints of an answer: what came, and all that it takes to repeat it.

``replay`` reads it again; a file from elsewhere is distrusted field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fwlocal import __version__, llama
from fwlocal.answer import Result, TokenLogprob, TopLogprob
from fwlocal.errors import UsageError
from fwlocal.loader import LoadedModel
from fwlocal.oneshot.asking import kind, parse_messages
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams

PROMPT_TOKENS = "tokens of the prompt"
DRAFTED_TOKENS = "drafted tokens"
LEAST_LOGPROB = -9999.0  # JSON has no infinity


@dataclass(frozen=True)
class Question:
    """What is asked of a model, with nothing left to it: ``messages`` have the system text;
    ``prompt_format`` None means a raw prompt, the one message's content. ``sampling`` has its
    seed; ``max_tokens`` None is all that the context holds."""

    messages: tuple[Message, ...]
    prompt_format: str | None
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]

    @property
    def text(self) -> str:
        """Of a raw prompt."""
        return self.messages[0].content


@dataclass(frozen=True)
class Recorded:
    """An answer as it was recorded, and where it came from. ``kept_tokens`` of the prompt were in
    the KV cache before; those that came from the disk are not among them: they are as if evaluated.
    ``running`` has the threads and batches, by EngineOptions' names, where they were recorded;
    ``setting`` holds what else may change a text, by its name."""

    question: Question
    text: str
    finish_reason: str
    completion_tokens: int
    kept_tokens: int
    model: str
    layers: Mapping[str, int]
    kv_type: str
    flash_attn: str
    running: Mapping[str, int]
    setting: Mapping[str, object]


def describe(
    result: Result, question: Question, loaded: LoadedModel, sha256: str | None
) -> dict[str, object]:
    """The object that ``--json`` prints; ``sha256`` is the model's."""
    sampling = asdict(question.sampling)
    del sampling["seed"]
    raw = question.prompt_format is None
    messages = [{"role": m.role, "content": m.content} for m in question.messages]
    return {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "model": _model(loaded, sha256),
        "prompt_format": question.prompt_format,
        "system": next((m.content for m in question.messages if m.role == "system"), None),
        "messages": None if raw else messages,
        "prompt": question.text if raw else None,
        "sampling": sampling,
        "seed": result.seed,
        "max_tokens": question.max_tokens,
        "stop": list(question.stop),
        **_setting(loaded),
        "tuned": list(loaded.plan.tuned),
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "reused_tokens": result.reused_tokens,
        **saved_work(result),
        "timings": {key: round(value, 4) for key, value in asdict(result.timings).items()},
    }


def saved_work(result: Result) -> dict[str, int]:
    """What saved evaluations: tokens of the prompt that came from the disk, and drafted ones."""
    return {
        "restored_tokens": result.n_restored,
        "drafted_tokens": result.n_drafted,
        "accepted_tokens": result.n_accepted,
    }


def describe_tokens(result: Result) -> list[dict[str, object]]:
    """Each token of the answer with its log-probability, and the likeliest in its place."""
    return [
        {**_described(token), "top": [_described(other) for other in token.top]}
        for token in result.logprobs
    ]


def _described(token: TokenLogprob | TopLogprob) -> dict[str, object]:
    logprob = max(round(token.logprob, 6), LEAST_LOGPROB)
    return {
        "token": token.token,
        "text": token.text,
        "bytes": list(token.bytes),
        "logprob": logprob,
    }


def setting_of(result: Result, loaded: LoadedModel, sha256: str | None) -> dict[str, object]:
    """What besides the question may change a text, by its name; as ``Recorded.setting``."""
    counts = {"prompt_tokens": result.prompt_tokens, "drafted_tokens": result.n_drafted}
    setting = {**_setting(loaded), **counts}
    return _compared(_model(loaded, sha256), setting)


def recorded(data: object, where: str) -> Recorded:
    """What ``describe`` wrote. Raises UsageError, which names ``where`` and the field."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: is {kind(data)}, not what `fwlocal run --json` prints")
    for field, types in _FIELDS.items():
        if field not in data:
            raise UsageError(
                f"{where}: has no {field!r}; only what `fwlocal run --json` prints can be repeated"
            )
        _check(data[field], types, f"{where}: {field!r}")
    for field, types in _MODEL_FIELDS.items():
        _check(data["model"].get(field), types, f"{where}: 'model': {field!r}")
    for name in (*_RUNNING, *_SAVED):
        _check(data.get(name), (int, type(None)), f"{where}: {name!r}")
    for device, count in data["layers"].items():
        _check(count, (int,), f"{where}: 'layers': {device!r}")
    model = data["model"]
    return Recorded(
        question=_question(data, where),
        text=data["text"],
        finish_reason=data["finish_reason"],
        completion_tokens=data["completion_tokens"],
        kept_tokens=data["reused_tokens"] - (data.get("restored_tokens") or 0),
        model=f"{model['name']}:{model['level']}" if model["level"] else model["file"],
        layers=data["layers"],
        kv_type=data["kv_type"],
        flash_attn=data["flash_attn"],
        running={name: data[name] for name in _RUNNING if data.get(name) is not None},
        setting=_compared(model, data),
    )


_FIELDS: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "finish_reason": (str,),
    "model": (dict,),
    "prompt_format": (str, type(None)),
    "messages": (list, type(None)),
    "prompt": (str, type(None)),
    "sampling": (dict,),
    "seed": (int,),
    "max_tokens": (int, type(None)),
    "stop": (list,),
    "llama_cpp": (str,),
    "build": (str,),
    "layers": (dict,),
    "kv_type": (str,),
    "flash_attn": (str,),
    "prompt_tokens": (int,),
    "completion_tokens": (int,),
    "reused_tokens": (int,),
}
# Missing in older records.
_RUNNING = ("n_threads", "n_threads_batch", "n_batch", "n_ubatch")
_SAVED = ("restored_tokens", "drafted_tokens")
_MODEL_FIELDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "level": (str, type(None)),
    "file": (str,),
    "size_bytes": (int, type(None)),
    "sha256": (str, type(None)),
}
_SAMPLING_FIELDS: Mapping[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_k": (int,),
    "top_p": (int, float),
    "min_p": (int, float),
    "repeat_penalty": (int, float),
    "grammar": (str, type(None)),
}


def _model(loaded: LoadedModel, sha256: str | None) -> dict[str, object]:
    file = loaded.file
    return {
        "name": file.name,
        "level": file.level,
        "file": str(file.path.absolute()),
        "size_bytes": loaded.header.file_size_bytes,
        "sha256": sha256,
    }


def _setting(loaded: LoadedModel) -> dict[str, object]:
    plan = loaded.plan
    return {
        "fwlocal": __version__,
        "llama_cpp": llama.version(),
        "build": llama.build_info(),
        "layers": {share.device: share.n_layers for share in plan.shares if share.n_layers},
        "kv_type": plan.kv_type,
        "flash_attn": plan.flash_attn,
        **{name: getattr(plan, name) for name in _RUNNING},
    }


def _compared(model: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, object]:
    layers = ", ".join(f"{n} on {device}" for device, n in setting["layers"].items())
    return {
        "the file's sha256": model["sha256"],
        "the file's bytes": model.get("size_bytes"),
        "llama.cpp": setting["llama_cpp"],
        "llama.cpp's build": setting["build"],
        "layers": layers,
        "kv_type": setting["kv_type"],
        "flash_attn": setting["flash_attn"],
        **{name: setting.get(name) for name in _RUNNING},
        PROMPT_TOKENS: setting["prompt_tokens"],
        DRAFTED_TOKENS: setting.get("drafted_tokens"),
    }


def _question(data: dict[str, Any], where: str) -> Question:
    if data["prompt_format"] is None:
        _check(data["prompt"], (str,), f"{where}: 'prompt'")
        messages: tuple[Message, ...] = (Message("user", data["prompt"]),)
    else:
        messages = parse_messages(data["messages"], f"{where}: 'messages'")
    for index, stop in enumerate(data["stop"]):
        _check(stop, (str,), f"{where}: 'stop' {index}")
        if not stop:
            raise UsageError(f"{where}: 'stop' {index} is empty")
    return Question(
        messages=messages,
        prompt_format=data["prompt_format"],
        sampling=_sampling(data, where),
        max_tokens=data["max_tokens"],
        stop=tuple(data["stop"]),
    )


def _sampling(data: dict[str, Any], where: str) -> SamplingParams:
    given = data["sampling"]
    for field, types in _SAMPLING_FIELDS.items():
        _check(given.get(field), types, f"{where}: 'sampling': {field!r}")
    unknown = [field for field in given if field not in _SAMPLING_FIELDS]
    if unknown:
        raise UsageError(f"{where}: 'sampling': unknown field {unknown[0]!r}")
    try:
        return SamplingParams(**given, seed=data["seed"])
    except UsageError as error:
        raise UsageError(f"{where}: 'sampling': {error}") from None


def _check(value: object, types: tuple[type, ...], where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, types):
        wanted = " or ".join(dict.fromkeys(kind(one()) for one in types))
        raise UsageError(f"{where} is {kind(value)}, not {wanted}")
