"""Whether Linux gives huge pages to memory that is of no file."""

from __future__ import annotations

import re
from pathlib import Path

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_pages(path: Path = ENABLED) -> str:
    """The kernel's word: "always", "madvise" (to who asks), "never", or "" where there is none."""
    try:
        found = re.search(r"\[(\w+)\]", path.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""
