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


def load(model: str, *, draft: str = "auto", **options: Any) -> EngineLike:
    """An engine for ``model``: a name from ``fwlocal models``, ``NAME:LEVEL`` or a .gguf's path.

    ``options`` are those of ``fwlocal.loader.EngineOptions``: ``n_ctx``, ``n_threads``,
    ``n_gpu_layers``, ``gpu_memory``, ``workers``, ``flash_attn``, ``kv_type``, ``mmap``,
    ``mlock``, ``prompt_format``, ``lookup``, ``prefix_bytes``. ``draft`` is a model, "auto" or
    "off". The embedded default is fetched when it is missing. Raises FwlocalError.
    """
    from fwlocal.loader import EngineOptions, open_model

    return open_model(model, EngineOptions(**options), draft=draft).engine
