"""A Hub on loopback for each test, with one repository that holds a large file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fwlocal.hub.remote_file import RemoteFile
from fwlocal.hub.repository import snapshot
from tests.hub_server import HubServer
from tests.sound_gguf import sound_gguf

REPO, NAME = "owner/model", "model.gguf"
CONTENT = sound_gguf(3_000_000)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """The server; ``owner/model`` holds ``model.gguf``."""
    with HubServer() as server:
        server.add(REPO, {NAME: CONTENT, "config.json": b"{}"}, licence="apache-2.0")
        yield server


@pytest.fixture
def file(hub: HubServer) -> RemoteFile:
    """The large file."""
    return snapshot(REPO, endpoint=hub.endpoint).open(NAME)
