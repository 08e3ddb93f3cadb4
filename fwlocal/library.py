"""What models there are: those that models.toml knows, and those on this disk."""

from __future__ import annotations

from dataclasses import dataclass

from fwlocal.registry import Registry, load_registry, user_file
from fwlocal.store import Store, default_root


@dataclass(frozen=True)
class Library:
    """The registry, and the folder of the models on this disk."""

    registry: Registry
    store: Store

    @classmethod
    def default(cls) -> Library:
        """The shipped and the user's models.toml, and the user's models folder."""
        return cls(load_registry(user_file()), Store(default_root()))
