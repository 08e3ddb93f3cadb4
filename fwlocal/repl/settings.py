"""``/set``, ``/raw`` and ``/stats``: what the user may choose in mid-chat, as one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fwlocal.config import KEYS
from fwlocal.errors import UsageError
from fwlocal.fitting import ON_FULL
from fwlocal.loader import default_sampling
from fwlocal.repl.command import Command, Offer, Sitting
from fwlocal.repl.completion import one_of
from fwlocal.repl.figures import figures
from fwlocal.repl.state import State
from fwlocal.sampling import SamplingParams
from fwlocal.terminal import inert

DEFAULT = "default"
SWITCH: Mapping[str, bool] = {"on": True, "off": False}


def _one_of(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"it must be one of {', '.join(known)}")
        return text

    return parse


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("it must be at least 1")
    return number


def _switch(text: str) -> bool:
    return SWITCH[_one_of(*SWITCH)(text)]


@dataclass(frozen=True)
class Setting:
    """``field`` is its name in SamplingParams if it ``samples``, else in State; ``choices`` are
    what TAB offers."""

    name: str
    help: str
    field: str
    parse: Callable[[str], Any]
    samples: bool = False
    choices: tuple[str, ...] = ()


SETTINGS = (
    Setting("temp", "0 always takes the likeliest token", "temperature", float, samples=True),
    Setting("top-k", "of the likeliest N tokens; 0 is all", "top_k", int, samples=True),
    Setting("top-p", "of the likeliest that add up to P", "top_p", float, samples=True),
    Setting("min-p", "at least P times the likeliest", "min_p", float, samples=True),
    Setting("repeat-penalty", "above 1 repeats less", "repeat_penalty", float, samples=True),
    Setting("seed", "the same seed, the same answer", "seed", int, samples=True),
    Setting("max-tokens", "most tokens of an answer", "max_tokens", _positive),
    Setting("on-full", "a full context", "on_full", _one_of(*ON_FULL), choices=ON_FULL),
    Setting("keys", "of the editor", "keys", _one_of(*KEYS), choices=KEYS),
    Setting("raw", "answers as they come", "raw", _switch, choices=tuple(SWITCH)),
    Setting("stats", "a line under each answer", "stats", _switch, choices=tuple(SWITCH)),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_BY_FIELD = {setting.field: setting for setting in SETTINGS}  # as models.toml and --json say
_FRESH = State()


def chosen_sampling(sitting: Sitting) -> SamplingParams:
    """The model's own sampling with what the user has set."""
    return default_sampling(sitting.loaded.file.spec).updated(sitting.state.sampling)


def _set(sitting: Sitting, typed: str) -> str:
    if not typed:
        return _listed(sitting)
    name, _, value = typed.replace("=", " ", 1).partition(" ")
    setting = _BY_NAME.get(name.replace("_", "-")) or _BY_FIELD.get(name.replace("-", "_"))
    if setting is None:
        raise UsageError(f"there is no setting {inert(name)}; /set lists them")
    value = value.strip()
    if value:
        _change(sitting, setting, value)
    return f"{setting.name} is {_value(sitting, setting)}"


def _change(sitting: Sitting, setting: Setting, text: str) -> None:
    """Raises UsageError for a value that it does not take; all is as before then."""
    try:
        value = _default(setting) if text == DEFAULT else setting.parse(text)
    except ValueError as error:
        number = "a whole number" if setting.parse is int else "a number"
        why = str(error) if "must" in str(error) else f"it must be {number}"
        raise UsageError(f"{setting.name} {text}: {why}") from None
    if not setting.samples:
        setattr(sitting.state, setting.field, value)
        return
    changed = {**sitting.state.sampling, setting.field: value}
    default_sampling(sitting.loaded.file.spec).updated(changed)
    sitting.state.sampling = changed
    sitting.engine.sampling = chosen_sampling(sitting)


def _default(setting: Setting) -> object:
    return None if setting.samples else getattr(_FRESH, setting.field)


def _value(sitting: Sitting, setting: Setting) -> str:
    source = sitting.engine.sampling if setting.samples else sitting.state
    value = getattr(source, setting.field)
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None and setting.field == "max_tokens":
        value = sitting.engine.max_tokens
        return "no limit" if value is None else str(value)
    return "random" if value is None else str(value)


def _listed(sitting: Sitting) -> str:
    width = max(map(len, _BY_NAME))
    values = {setting.name: _value(sitting, setting) for setting in SETTINGS}
    widest = max(map(len, values.values()))
    rows = [
        f"  {setting.name:<{width}}  {values[setting.name]:<{widest}}  {setting.help}"
        for setting in SETTINGS
    ]
    return "\n".join([*rows, f"/set NAME VALUE sets one; /set NAME {DEFAULT} takes it back."])


def _offers(typed: str) -> Iterator[Offer]:
    name, space, _ = typed.partition(" ")
    if not space:
        yield from ((setting.name, setting.help) for setting in SETTINGS)
    elif (setting := _BY_NAME.get(name)) is not None:
        yield from ((f"{name} {choice}", "") for choice in (*setting.choices, DEFAULT))


def _raw(sitting: Sitting, typed: str) -> str:
    _toggle(sitting, "raw", typed)
    return f"Answers are shown {'as they come' if sitting.state.raw else 'as Markdown'}."


def _toggle(sitting: Sitting, name: str, typed: str) -> None:
    if not typed:
        typed = "off" if getattr(sitting.state, name) else "on"
    _change(sitting, _BY_NAME[name], typed)


def _stats(sitting: Sitting, typed: str) -> str:
    if typed:
        _toggle(sitting, "stats", typed)
        return f"stats is {_value(sitting, _BY_NAME['stats'])}"
    if sitting.state.last is None:
        return "There is no answer yet; /stats on shows a line under each."
    return figures(sitting.state.last)


SETTINGS_COMMANDS = (
    Command("/set", "list the settings, or set one", _set, "[NAME VALUE]", completes=_offers),
    Command(
        "/raw",
        "show answers as they come, or as Markdown",
        _raw,
        "[on|off]",
        completes=one_of(*SWITCH),
    ),
    Command(
        "/stats",
        "speeds of the last answer; on: under each",
        _stats,
        "[on|off]",
        completes=one_of(*SWITCH),
    ),
)
