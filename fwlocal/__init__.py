"""FreeWilly1, FreeWilly2, the Stable Belugas and any GGUF model, on this machine.

import fwlocal
engine = fwlocal.load("smollm2-135m")
for piece in engine.chat([{"role": "user", "content": "What is the capital of France?"}]):
    print(piece, end="", flush=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fwlocal.errors import FwlocalError

if TYPE_CHECKING:
    from fwlocal.engine import EngineLike

__all__ = ["FwlocalError", "__version__", "load"]
__version__ = "0.1.0"


def load(model: str, *, draft: str | None = "auto", **options: Any) -> EngineLike:
    """An engine for ``model``: a name from ``fwlocal models``, ``NAME:LEVEL`` or a .gguf's path.

    ``options`` are those of ``fwlocal.loader.EngineOptions``: ``n_ctx``, ``n_threads``,
    ``n_gpu_layers``, ``gpu_memory``, ``workers``, ``flash_attn``, ``kv_type``, ``mmap``,
    ``mlock``, ``prompt_format``, and what it has for speed. ``draft`` is a smaller model that
    drafts ahead, "auto" (the one of models.toml, if it is on this disk), or "off" or None for none;
    ``lookup=False`` drafts nothing from the text either, and ``lossless`` says whether the text
    must stay the same (None: on the CPU). Long prompts are kept, evaluated, in ``prefix_bytes`` of
    the disk at most (4 GiB; 0 keeps none). ``tuned=False`` takes nothing that ``fwlocal tune``
    found. A Result tells what was saved: ``n_drafted``, ``n_accepted``, ``n_restored``.

    The embedded default is fetched when it is missing. Raises FwlocalError. Where more than the
    engine is wanted (the plan, the file), ``open_model(model, EngineOptions(...), draft=...)``
    gives it: ``from fwlocal.loader import EngineOptions, open_model``.
    """
    from fwlocal.errors import UsageError
    from fwlocal.loader import EngineOptions, open_model

    draft = "off" if draft is None else draft
    if not isinstance(draft, str):
        raise UsageError(f'draft is {draft!r}; it must be a model, "auto" or "off"')
    return open_model(model, EngineOptions(**options), draft=draft).engine
