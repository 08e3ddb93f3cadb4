"""The control groups that this process is in: its own and all above it, each of which may limit it.

Both layouts of Linux, v2 and v1, and both at once. On other systems there are no such files, and so
no limits. What a limit means is for the readers to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class ControlGroups:
    """Where the kernel shows the groups, and which of them this process is in (cgroups(7))."""

    mount: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")

    def folders(self, controller: str) -> Iterator[Path]:
        """The folders of a controller's groups, v2 and then v1, each from the innermost out.

        In a container without a namespace of its own the path is the host's and the mount is the
        container's group: parts of the path that are not there are passed over.
        """
        for line in self._lines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # v2: one hierarchy of all controllers
                yield from _upwards(self.mount, path)
            elif controller in controllers.split(","):
                yield from _upwards(self.mount / controller, path)

    def _lines(self) -> list[str]:
        try:
            lines = self.membership.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.count(":") >= 2]


def _upwards(root: Path, path: str) -> Iterator[Path]:
    parts = PurePosixPath(path.lstrip("/")).parts
    for depth in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:depth])


def read_number(path: Path) -> int | None:
    """The number in a file; None for a missing file, and for "max"."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def read_numbers(path: Path) -> dict[str, int]:
    """The numbers of a file of ``name number`` lines, {} if it cannot be read."""
    try:
        pairs = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return {key: int(value) for key, value in pairs}
    except (OSError, ValueError):
        return {}
