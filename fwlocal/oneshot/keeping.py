"""Why a prompt that took long is not kept for the next time, in a few words for --stats."""

from __future__ import annotations

from fwlocal.answer import Result
from fwlocal.config import config_folder, load_config
from fwlocal.prefix_cache import LEAST_TOKENS, default_folder
from fwlocal.prefix_cache.contents import hindrance
from fwlocal.prefix_cache.worth import LEAST_SAVED_S

OFF = "the prefix cache is off"


def why_not_kept(result: Result, prefix_bytes: int) -> str:
    """What keeps the prefix cache, which may take ``prefix_bytes`` of the disk, from keeping the
    prompt; "" where nothing does, for a prompt that is not worth it, and for whoever turned the
    cache off for this once. Raises RegistryError."""
    n_evaluated = result.prompt_tokens - result.reused_tokens
    is_worth_it = n_evaluated >= LEAST_TOKENS and result.timings.prefill_s >= LEAST_SAVED_S
    if not is_worth_it or not result.completion_tokens:  # or it was not read to its end
        return ""
    if prefix_bytes:
        return hindrance(default_folder()).partition(";")[0]
    return "" if load_config(config_folder()).prefix_cache_bytes else OFF
