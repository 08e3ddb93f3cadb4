"""A made-up process in control groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fwlocal.hardware.cgroup import ControlGroups


def groups(tmp_path: Path, membership: str, files: Mapping[str, object]) -> ControlGroups:
    """A process in the groups that /proc/self/cgroup would tell, with such files in them."""
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (tmp_path / "self").write_text(membership + "\n")
    return ControlGroups(tmp_path / "cgroup", tmp_path / "self")
