"""What is known of a model's file besides what is in it: its licence, where it came from, and the
prompt format in which it is talked to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fwlocal.errors import UsageError
from fwlocal.formats import choose_format
from fwlocal.gguf import GGUFHeader
from fwlocal.registry import ModelSpec
from fwlocal.store import ModelFile
from fwlocal.store.manifest import Manifest

# The converter writes these keys into its files.
_SOURCE, _REVISION, _BASE = "fwlocal.source", "fwlocal.source.revision", "fwlocal.base"


def describe(file: ModelFile, header: GGUFHeader, manifest: Manifest | None) -> dict[str, Any]:
    """As plain data, for ``--json``: None for what is not known."""
    facts: dict[str, Any] = {
        "model": file.name,
        "level": file.level,
        "licence": _licence(file.spec, header, manifest),
        "prompt_format": _prompt_format(file, header),
        "road": manifest.road if manifest else "convert" if _made_here(header) else "",
        "source": manifest.source if manifest else header.text(_SOURCE),
        "revision": manifest.revision if manifest else header.text(_REVISION),
        "base": header.text(_BASE),
        "added": manifest.added if manifest else "",
        "last_used": manifest.last_used if manifest else "",
        "sha256": file.sha256,
    }
    known = {key: value or None for key, value in facts.items()}
    return {**known, "non_commercial": bool(file.spec and file.spec.licence.non_commercial)}


def _licence(spec: ModelSpec | None, header: GGUFHeader, manifest: Manifest | None) -> str:
    recorded = manifest.licence if manifest else ""
    return recorded or (spec.licence.name if spec else "") or header.text("general.license") or ""


def _prompt_format(file: ModelFile, header: GGUFHeader) -> str:
    try:
        return choose_format(file, header, None)
    except UsageError:  # one must be named
        return ""


def _made_here(header: GGUFHeader) -> bool:
    return header.text(_SOURCE) is not None


def in_words(facts: dict[str, Any]) -> dict[str, str]:
    """The same for people, by label, without what is not known."""
    return dict(_lines(facts))


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    model = f"{facts['model']}:{facts['level']}" if facts["level"] else facts["model"]
    yield "model", model
    note = " (non-commercial use only)" if facts["non_commercial"] else ""
    yield "licence", f"{facts['licence'] or 'not known'}{note}"
    yield "prompt format", facts["prompt_format"] or "none; name one with --prompt-format"
    if facts["source"]:
        revision = f" at {facts['revision']}" if facts["revision"] else ""
        base = f", added to {facts['base']}" if facts["base"] else ""
        way = _WAYS.get(facts["road"], "from")
        yield "source", f"{way} {facts['source']}{revision}{base}"
    for label, key in (("added", "added"), ("last used", "last_used"), ("sha256", "sha256")):
        if facts[key]:
            yield label, facts[key]


_WAYS = {
    "download": "downloaded from",
    "convert": "converted from",
    "package": "from the package",
    "import": "imported from",
}
