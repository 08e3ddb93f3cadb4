"""``/tokens`` and ``/plan``: what the context holds, and where the model is."""

from __future__ import annotations

from fwlocal.offload import summary
from fwlocal.prompts import Message
from fwlocal.repl.command import Command, Sitting
from fwlocal.repl.figures import Share, context_bar
from fwlocal.sizes import gib


def _tokens(sitting: Sitting, _: str) -> str:
    engine, conversation = sitting.engine, sitting.conversation
    all_in = engine.count(conversation.messages) if conversation.messages else 0
    head = [Message("system", conversation.system)] if conversation.system else []
    empty = engine.count([*head, Message("user", "")])
    last = sitting.conversation.turns[-2:]
    asked = engine.count([*head, *last]) - empty if last else 0
    before = max(all_in - empty - asked, 0)
    shares = [Share("▓", "system text and format" if conversation.system else "format", empty)]
    if before:
        shares.append(Share("▒", "earlier questions and answers", before))
    if last:
        shares.append(Share("█", "the last question and its answer", asked))
    lines = [context_bar(shares, engine.limit, sitting.screen.width())]
    if conversation.n_left:
        many = conversation.n_left > 1
        what = f"{conversation.n_left} oldest questions have" if many else "oldest question has"
        lines.append(f"The {what} left the context, with the answers; they stay in the chat.")
    return "\n".join(lines)


def _plan(sitting: Sitting, _: str) -> str:
    plan = sitting.loaded.plan
    rows = [
        f"  {share.device}: {share.n_layers} layers, {gib(share.total_bytes)} (weights "
        f"{gib(share.weights_bytes)}, KV cache {gib(share.kv_bytes)}, compute "
        f"{gib(share.compute_bytes)})"
        for share in plan.shares
    ]
    advice = [f"  {line}" for line in plan.advice]
    return "\n".join([f"{summary(plan, sitting.engine.limit)}: {plan.reason}", *rows, *advice])


CONTEXT_COMMANDS = (
    Command("/tokens", "what the context holds, as a bar", _tokens),
    Command("/plan", "which layers are on which device, and why", _plan),
)
