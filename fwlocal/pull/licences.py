"""Licences that must be accepted before a model's first download, and the record of what was.

``licences.json`` in the models folder holds for each model the date, and the SHA-256 of the notice
and of the licence's text. Another notice is asked about again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fwlocal.errors import ModelNotFound, NetworkError, UsageError
from fwlocal.files import store_error, write_atomically
from fwlocal.hub.repository import Snapshot, fetch_small
from fwlocal.locks import held
from fwlocal.registry import ModelSpec
from fwlocal.store.manifest import now

RECORD = "licences.json"
MAX_LICENCE_BYTES = 1 << 20


@dataclass(frozen=True)
class Terms:
    """What must be accepted for ``model``: ``notice`` is shown, ``text`` is the licence in full,
    with its ``path`` on this disk, where the repository carries it."""

    model: str
    licence: str
    notice: str
    text: str = ""
    path: Path | None = None


def is_non_commercial(licence: str) -> bool:
    """Whether a licence's name says so, as ``cc-by-nc-4.0`` does."""
    return re.search(r"non[-_ ]?commercial|(?<![a-z])nc(?![a-z])", licence.casefold()) is not None


def terms_of(spec: ModelSpec | None, source: Snapshot) -> Terms | None:
    """What must be accepted before a model is fetched from ``source``, None for nothing."""
    if spec is not None:
        if not spec.licence.non_commercial:
            return None
        model, licence, notice = spec.name, spec.licence.name, spec.licence.note
    else:
        if not is_non_commercial(source.licence):
            return None
        model, licence = source.repo, source.licence
        notice = "For non-commercial use only."
    path = _licence_file(source)
    text = path.read_text(encoding="utf-8", errors="replace") if path else ""
    return Terms(model, licence, notice, text, path)


def _licence_file(source: Snapshot) -> Path | None:
    """The licence's text, where the repository carries it and the Hub can be reached."""
    for name, file in source.files.items():
        bare = name.casefold().removesuffix(".txt").removesuffix(".md")
        if bare in ("license", "licence") and file.size_bytes <= MAX_LICENCE_BYTES:
            try:
                return fetch_small(source, [name]) / name
            except (NetworkError, ModelNotFound):
                return None
    return None


def is_accepted(root: Path, terms: Terms) -> bool:
    """Whether the same licence, with the same notice, was accepted before."""
    accepted = _read(root).get(terms.model)
    return isinstance(accepted, dict) and accepted.get("notice_sha256") == _notice(terms)


def accept(root: Path, terms: Terms) -> None:
    """Record it, with the date and the hash of the licence's text."""
    entry = {
        "licence": terms.licence,
        "accepted": now(),
        "notice_sha256": _notice(terms),
        "text_sha256": _sha256(terms.text) if terms.text else None,
    }
    path = root / RECORD
    try:
        root.mkdir(parents=True, exist_ok=True)
        with held(path, "recording a licence", wait=True):
            record = {**_read(root), terms.model: entry}
            write_atomically(path, json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise store_error(error, path) from error


def refuse(terms: Terms) -> UsageError:
    """For who cannot be asked."""
    return UsageError(
        f"{terms.model}: {terms.licence}: {terms.notice} Accept that with --accept-licence"
    )


def _notice(terms: Terms) -> str:
    return _sha256(f"{terms.licence}\n{terms.notice}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(root: Path) -> Mapping[str, Any]:
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError):
        return {}
