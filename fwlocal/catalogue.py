"""``fwlocal models``: what models.toml knows, and what of it is on this disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fwlocal.registry import ModelSpec, Registry
from fwlocal.store import Store
from fwlocal.tables import Column, Table

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = (
    Column("MODEL"),
    Column("SIZE", right=True, left_out=4),
    Column("CONTEXT", right=True, left_out=1),
    Column("LEVELS, GB", folds=True, left_out=2),
    Column("LICENCE", folds=True, left_out=3),
    Column("ON DISK", folds=True),
)


def describe(registry: Registry, store: Store) -> list[dict[str, Any]]:
    """Every known model as plain data, for ``--json``."""
    return [_describe(spec, store) for spec in registry.models.values()]


def _describe(spec: ModelSpec, store: Store) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "parameters": spec.parameters,
        "prompt_format": spec.prompt_format,
        "context_length": spec.context_length,
        "licence": spec.licence.name,
        "non_commercial": spec.licence.non_commercial,
        "default_level": spec.default_level,
        "draft": spec.draft,
        "levels_gb": dict(spec.level_sizes_gb),
        "checkpoints": [
            {"repo": c.repo, "revision": c.revision, "size_gb": c.size_gb, "delta": c.delta}
            for c in spec.checkpoints
        ],
        "on_disk": [
            {"level": m.level, "file": str(m.path), "size_bytes": m.size_bytes, "sha256": m.sha256}
            for m in store.levels(spec)
        ],
    }


def show(registry: Registry, store: Store, console: Console) -> None:
    """The same for people, fitted to a terminal or else a line for each."""
    table(registry, store).show(console)


def table(registry: Registry, store: Store) -> Table:
    """The same as a table."""
    return Table(COLUMNS, [_cells(spec, store) for spec in registry.models.values()])


def _cells(spec: ModelSpec, store: Store) -> tuple[str, ...]:
    non_commercial = ", non-commercial" if spec.licence.non_commercial else ""
    return (
        spec.name,
        spec.parameters,
        str(spec.context_length),
        _levels(spec),
        spec.licence.name + non_commercial,
        ", ".join(m.level for m in store.levels(spec)) or "-",
    )


def _levels(spec: ModelSpec) -> str:
    """The smallest, the default and the largest published level, or where to convert from."""
    sizes = spec.level_sizes_gb
    if not sizes:
        sources = ", ".join(f"{c.size_gb:.0f} of {c.dtype}" for c in spec.checkpoints)
        return f"none published; convert from {sources}" + (" (delta)" if spec.base else "")
    ordered = sorted(sizes, key=lambda level: sizes[level])
    shown = dict.fromkeys([ordered[0], spec.default_level, ordered[-1]])
    return ", ".join(f"{level} {sizes[level]:.3g}" for level in shown)
