"""Which entries there are of a setting: their headers, each read once.

An entry does not change while it has its name, and whoever loads a state looks at its header again,
so one that was read holds for as long as the file is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fwlocal.prefix_cache.folder import Stored, name_start, remove
from fwlocal.prefix_cache.form import BadEntry, Header, read_header
from fwlocal.prefix_cache.setting import Setting


class Headers:
    """The headers that this process has read, by their files' names."""

    def __init__(self) -> None:
        self._known: dict[str, Header] = {}

    def of(self, setting: Setting, files: Sequence[Stored]) -> Iterator[tuple[Stored, Header]]:
        """The entries of a setting among ``files``; what is no sound entry is removed."""
        start = name_start(setting.key)
        for file in files:
            if file.name.startswith(start) and not file.is_growing:
                header = self._known.get(file.name) or read_entry(file.path)
                if header is not None and header.key == setting.key:
                    self._known[file.name] = header
                    yield file, header


def read_entry(path: str) -> Header | None:
    """The header of an entry; None where it is gone or cannot be read now. One that is damaged, or
    of another format, is removed."""
    try:
        with open(path, "rb", buffering=0) as file:
            return read_header(file)
    except BadEntry:
        remove(path)
    except OSError:
        pass
    return None
