"""The models on this disk: found, described, taken in and removed."""

from fwlocal.store.models import (
    ModelFile,
    Store,
    StoredModel,
    Unfinished,
    default_root,
    locate,
    looks_like_path,
)

__all__ = [
    "ModelFile",
    "Store",
    "StoredModel",
    "Unfinished",
    "default_root",
    "locate",
    "looks_like_path",
]
