"""``fwlocal chat``: a conversation in the terminal."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from fwlocal import options
from fwlocal.cli.asked import (
    answer_once,
    is_terminal,
    load_model,
    model_name,
    read_prompt,
    report_abort,
)
from fwlocal.cli.output import notify
from fwlocal.errors import Interrupted, ModelNotFound, UsageError
from fwlocal.sessions.completion import session_name
from fwlocal.taken import take_engine_options, take_sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from fwlocal.conversation import Conversation
    from fwlocal.loader import EngineOptions, LoadedModel
    from fwlocal.repl.editor import Editor
    from fwlocal.repl.loop import Chat
    from fwlocal.repl.quiet import QuietKeys
    from fwlocal.repl.state import State
    from fwlocal.sessions.events import Speaker
    from fwlocal.sessions.reading import Session
    from fwlocal.sessions.recording import Recorder


@click.command()
@options.model_option
@options.prompt_options
@click.option("-c", "--continue", "goes_on", is_flag=True, help="Go on with the last chat.")
@click.option(
    "--session",
    "name",
    metavar="NAME",
    shell_complete=session_name,
    help="Go on with the chat NAME, or begin it.",
)
@click.option("--no-save", is_flag=True, help="Keep nothing of this chat on the disk.")
@click.option(
    "--on-full",
    type=click.Choice(["shift", "drop", "stop"]),
    default="shift",
    show_default=True,
    help="When the context is full: the oldest turns leave and the KV cache is shifted, they "
    "leave and the rest is read anew, or the chat stops.",
)
@click.option("--plain", is_flag=True, help="Answers as they come: no Markdown, no colours.")
@click.option("--stats", is_flag=True, help="Speeds and the context used, under each answer.")
@options.sampling_options
@options.engine_options
@click.pass_context
def chat(
    context: click.Context, /, goes_on: bool, name: str | None, no_save: bool, **rest: Any
) -> None:
    """Chat in the terminal. Without one on stdin, answer the text there and exit.

    Every chat is saved as it goes; `fwlocal sessions` lists them.
    """
    _check_together(goes_on, name, no_save)
    if not is_terminal():
        _answer_piped(goes_on or name is not None, rest)
        return
    from fwlocal.repl.quiet import QuietKeys
    from fwlocal.sessions.recording import Recorder

    recorder = Recorder(saves=not no_save, warn=notify)
    try:
        session = _opened(recorder, goes_on, name)
        if session and context.get_parameter_source("model") is not ParameterSource.COMMANDLINE:
            _as_before(session.speaker, rest)
        with QuietKeys() as keys:
            _chat(recorder, session, keys, rest)
    finally:
        recorder.close()


def _check_together(goes_on: bool, name: str | None, no_save: bool) -> None:
    if goes_on and name is not None:
        raise UsageError("--continue and --session exclude each other")
    if no_save and (goes_on or name is not None):
        raise UsageError("--no-save keeps nothing; leave out --continue and --session")


def _answer_piped(is_saved_one: bool, rest: dict[str, Any]) -> None:
    """Answer the text on stdin, as `run` does."""
    from fwlocal import oneshot

    if is_saved_one:
        raise UsageError("a saved chat goes on in a terminal only; stdin is none")
    rest.pop("plain"), rest.pop("on_full")  # the one answer is plain, and its context is its own
    stats = rest.pop("stats")
    answer_once(read_prompt(None), oneshot.Output(sys.stdout, sys.stderr, stats=stats), rest)


def _opened(recorder: Recorder, goes_on: bool, name: str | None) -> Session | None:
    """The session to go on with, if there is one; its lock is taken before anything is loaded."""
    if goes_on:
        name = recorder.folder.newest()
    return None if name is None else recorder.open(name)


def _as_before(speaker: Speaker, rest: dict[str, Any]) -> None:
    """Choose the model of a saved chat, and its prompt format where none is asked for."""
    from fwlocal.prompts import FORMAT_NAMES

    if speaker.model:
        rest["model"] = speaker.model
        if rest["prompt_format"] is None and speaker.prompt_format in FORMAT_NAMES:
            rest["prompt_format"] = speaker.prompt_format


def _chat(
    recorder: Recorder, session: Session | None, keys: QuietKeys, rest: dict[str, Any]
) -> None:
    from fwlocal.offload import summary
    from fwlocal.oneshot.writing import draft_remark, tuned_remark
    from fwlocal.repl.hangup import leaving
    from fwlocal.repl.loop import Chat
    from fwlocal.repl.screen import TerminalScreen
    from fwlocal.sessions.recording import speaker_of

    system, is_plain = rest.pop("system"), rest.pop("plain")
    state = _state(rest, is_plain)
    model, verbose = model_name(rest.pop("model")), rest.pop("verbose")
    draft = rest.pop("draft")
    engine_options = take_engine_options(rest)

    def last_words(message: str) -> NoReturn:
        keys.restore()
        report_abort(message)

    open_it = partial(_open, state, engine_options, verbose, last_words)

    def open_again(wanted: str, prompt_format: str | None) -> LoadedModel:
        """The chat's first model has the draft that was asked for, another one its own."""
        is_first = wanted in (model, speaker_of(loaded).model)
        own = draft if is_first or draft == "off" else "auto"
        return open_it(own, wanted, prompt_format)

    try:
        loaded = open_it(draft, model, engine_options.prompt_format)
    except ModelNotFound as error:
        if session is None or model != session.speaker.model:
            raise
        raise ModelNotFound(f"{error}; the chat goes on with another by -m MODEL") from error
    remarks = draft_remark(loaded.draft) + tuned_remark(loaded.plan)
    notify(summary(loaded.plan, loaded.engine.limit) + remarks)
    chat = Chat(
        loaded=loaded,
        conversation=_conversation(loaded, session, system),
        screen=TerminalScreen(_editor(recorder), state, is_plain=is_plain),
        open=open_again,
        state=state,
        recorder=recorder,
    )
    recorder.warn = chat.screen.note
    chat.screen.note(f"{chat.described}. /help lists the commands.")
    if session is None:
        recorder.begin(recorder.speaker, chat.conversation.system)
    else:
        _tell_session(chat, session, system)
    try:
        with leaving(lambda: state.at_work):
            chat.run()
    finally:
        chat.engine.close()


def _state(rest: dict[str, Any], is_plain: bool) -> State:
    """What the options set."""
    from fwlocal.config import config_folder, load_config
    from fwlocal.repl.state import State

    return State(
        sampling=take_sampling(rest),
        max_tokens=rest.pop("max_tokens"),
        on_full=rest.pop("on_full"),
        stats=rest.pop("stats"),
        raw=is_plain,
        keys=load_config(config_folder()).keys,
    )


def _conversation(loaded: LoadedModel, session: Session | None, system: str | None) -> Conversation:
    from fwlocal.conversation import Conversation

    if session is not None:
        return session.conversation()
    return Conversation(loaded.engine.system if system is None else system)


def _editor(recorder: Recorder) -> Editor:
    from fwlocal.repl.commands import COMMANDS
    from fwlocal.repl.editor import Editor
    from fwlocal.repl.history import default_history_path

    history = default_history_path() if recorder.saves else None
    return Editor(COMMANDS, history=history, warn=notify)


def _tell_session(chat: Chat, session: Session, system: str | None) -> None:
    from fwlocal.repl.showing import show_turns

    where = chat.recorder.path
    notify(f"going on with {where.stem if where else 'a chat'}: {session.in_words()}")
    if system is not None and system != chat.conversation.system:
        chat.conversation.set_system(system)
    show_turns(chat, chat.conversation.turns[-2:])


def _open(
    state: State,
    engine_options: EngineOptions,
    verbose: bool,
    last_words: Callable[[str], NoReturn],
    draft: str,
    model: str,
    prompt_format: str | None,
) -> LoadedModel:
    """Load a model by these options, in a prompt format or its own; ``draft`` as in
    ``find_draft``."""
    from fwlocal.interrupts import Interrupt

    wanted = replace(engine_options, prompt_format=prompt_format)
    state.at_work = interrupt = Interrupt()
    try:
        loaded = load_model(
            model,
            wanted,
            draft=draft,
            verbose=verbose,
            last_words=last_words,
            interrupt=interrupt,
        )
    finally:
        state.at_work = None
    if interrupt.signal not in (None, signal.SIGINT):  # it came when all was loaded
        loaded.engine.close()
        raise Interrupted("terminated", exit_code=interrupt.exit_code)
    return loaded
