"""``fwlocal chat``: a conversation in the terminal."""

from __future__ import annotations

import sys
from typing import Any

import click

from fwlocal import options
from fwlocal.cli.asked import answer_once, is_terminal, loaded_model, read_prompt
from fwlocal.cli.output import notify


@click.command()
@options.model_option
@options.prompt_options
@options.sampling_options
@options.engine_options
def chat(**rest: Any) -> None:
    """Chat in the terminal. Without one on stdin, answer the text there and exit."""
    from fwlocal import oneshot

    if not is_terminal():
        answer_once(read_prompt(None), oneshot.Output(sys.stdout, sys.stderr), rest)
        return
    system, max_tokens = rest.pop("system"), rest.pop("max_tokens")
    sampling = options.take_sampling(rest)
    with loaded_model(rest) as loaded:
        from fwlocal.offload import summary
        from fwlocal.repl.screen import chat_on_terminal

        notify(summary(loaded.plan))
        engine = loaded.engine
        engine.sampling = engine.sampling.updated(sampling)
        chat_on_terminal(loaded, engine.system if system is None else system, max_tokens)
