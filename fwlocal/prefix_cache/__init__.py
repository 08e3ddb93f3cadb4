"""KV states on disk: what was evaluated once is not evaluated again, also by another process.

An entry is a file: the token ids and the bytes of the state that ``llama.Context.state`` gives for
them. ``PrefixCache.find`` tells which entry shares the longest beginning with a prompt, ``load``
gives its state for ``llama.Context.restore``, ``put`` keeps one. Nothing here fails for its user:
where a folder cannot be read or written, there is no entry.

What a state means, this room does not know; that it is the very bytes which were put there, for the
same tokens of the same model in the same setting, it makes sure of before native code sees them.
"""

from fwlocal.prefix_cache.cache import Hit, Outcome, PrefixCache, default_folder
from fwlocal.prefix_cache.contents import Described
from fwlocal.prefix_cache.fingerprint import fingerprint
from fwlocal.prefix_cache.reuse import KeptPrefixes, NoPrefixes, Prefixes
from fwlocal.prefix_cache.setting import Setting, setting_of
from fwlocal.prefix_cache.worth import LEAST_TOKENS, worth_keeping, worth_loading
from fwlocal.prefix_cache.writer import Writer

__all__ = [
    "LEAST_TOKENS",
    "Described",
    "Hit",
    "KeptPrefixes",
    "NoPrefixes",
    "Outcome",
    "PrefixCache",
    "Prefixes",
    "Setting",
    "Writer",
    "default_folder",
    "fingerprint",
    "setting_of",
    "worth_keeping",
    "worth_loading",
]
