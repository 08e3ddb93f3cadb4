"""How many rows a model computes at once to the bit, and what they cost, remembered from one run to
the next.

Trials find out the one (``fwlocal.draft.widths``), drafting the other, which takes a few answers;
it holds for all models of a shape, on a machine with its llama.cpp, its threads, and its attention.
Small files in the cache folder; one that cannot be read or written is one that is not there: it is
found out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fwlocal.draft import KnownWidths
from fwlocal.draft.drafter import MOST_DRAFTED
from fwlocal.draft.widths import CPU_WIDTHS, ENOUGH_ROWS
from fwlocal.files import CACHE, remove_all, user_cache, write_atomically
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware.bandwidth import cpu_model
from fwlocal.llama.build import build_id
from fwlocal.llama.native_context import ContextOptions
from fwlocal.offload import OffloadPlan
from fwlocal.prefix_cache.setting import switches_in
from fwlocal.tuned import shape_of

FOLDER = "exact"
COSTS = "costs"
_VERSION = 1
_SHORT = 16  # hex digits of a hash in a file's name
_LEAST_COST, _MOST_COST = 0.5, 10.0  # decodes of a token: of a batch, and for each of its rows


class ExactRows:
    """What is remembered in a file of ``folder`` for this machine, by the model's ``header``, the
    ``plan`` and the ``options`` of its context."""

    def __init__(
        self,
        header: GGUFHeader,
        plan: OffloadPlan,
        options: ContextOptions,
        folder: Path | None = None,
    ) -> None:
        what = {
            "version": _VERSION,
            "shape": shape_of(header),
            "cpu": cpu_model(),
            "build": build_id(),
            "layers": [(share.device, share.n_layers) for share in plan.shares],
            "threads": (options.n_threads, options.n_threads_batch),
            "attention": (options.flash_attn, options.kv_type),
            "batches": (options.n_batch, options.n_ubatch),  # wider ones are cut into those
            "switches": switches_in(os.environ),
        }
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        shape = str(what["shape"])[:_SHORT]
        self._path = (folder or _folder()) / f"{shape}-{name[:_SHORT]}.json"

    def recall(self) -> tuple[KnownWidths, dict[int, float]]:
        """What is known, and the costs of batches by their rows; nothing where there is no such
        file, or a damaged one."""
        try:
            data = json.loads(self._path.read_bytes())
            costs = dict(data.pop(COSTS, ()))
            if costs != _possible(costs):
                raise ValueError(f"costs are {costs}")
            return _checked(KnownWidths(**_fields(data))), costs
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return KnownWidths(), {}

    def keep(self, known: KnownWidths, costs: Mapping[int, float] | None = None) -> None:
        """Remember it, where the folder can be written; without ``costs`` those that are there."""
        costs = self.recall()[1] if costs is None else costs
        data = {**asdict(known), COSTS: sorted(_possible(costs).items())}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(data) + "\n")


def forget_exact(shape: str, folder: Path | None = None) -> int:
    """Forget what is known of models of a shape (``fwlocal.tuned.shape_of``), on whatever machine;
    how many files that were. Raises StoreError."""
    return remove_all((folder or _folder()).glob(f"{shape[:_SHORT]}-*.json"), CACHE)


def _folder() -> Path:
    return user_cache() / FOLDER


def _fields(data: dict[str, list[Any]]) -> dict[str, tuple[Any, ...]]:
    """JSON's lists, nested once, as tuples."""
    return {
        name: tuple(tuple(item) if isinstance(item, list) else item for item in value)
        for name, value in data.items()
    }


def _possible(costs: Mapping[Any, Any]) -> dict[int, float]:
    """Without what no batch can cost: a clock may jump, and a file be anything."""
    return {
        rows: cost
        for rows, cost in costs.items()
        if type(rows) is int
        and 1 < rows <= MOST_DRAFTED + 1
        and type(cost) in (int, float)
        and _LEAST_COST <= cost <= _MOST_COST * rows
    }


def _checked(known: KnownWidths) -> KnownWidths:
    """Raises ValueError, TypeError for what no trial can have found."""
    for sure, not_tried, same in (
        (known.short_sure, known.short_open, known.short_same),
        (known.long_sure, known.long_open, known.long_same),
    ):
        widths = (*sure, *not_tried)
        if len({*widths}) < len(widths) or not {*widths} <= {*CPU_WIDTHS}:
            raise ValueError(f"widths are {widths}")
        for width, n_rows in same:
            if width not in not_tried or type(n_rows) is not int or not 0 < n_rows < ENOUGH_ROWS:
                raise ValueError(f"{n_rows} rows of {width}")
    return known
