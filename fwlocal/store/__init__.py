"""The models on this disk: found, described, taken in and removed."""

from fwlocal.store.locating import locate, looks_like_path
from fwlocal.store.models import (
    ModelFile,
    Store,
    StoredModel,
    Unfinished,
    default_root,
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
