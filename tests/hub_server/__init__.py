"""A Hub on loopback: repositories, files and planned faults, for the real client and for ours.

It speaks the download protocol of the Hugging Face Hub, as huggingface_hub's ``file_download.py``,
``hf_api.py`` and ``utils/_http.py`` (2.4) read it: the JSON of models, refs and searches, HEAD and
GET of files with their ``X-`` headers, a redirect of large files to a second listener (the "CDN")
by links that expire. It knows nothing of uploads, of Xet's own protocol and of TLS.

    with HubServer() as server:
        server.add("owner/name", {"config.json": b"{}", "model.gguf": path})
        server.plan(Fault(path="model.gguf", after_bytes=1000))
        ...  # any client of server.endpoint
        assert server.sent_bytes < 2 * size

``python -m tests.hub_server FOLDER`` serves FOLDER/owner/name/files until Ctrl-C.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.hub_server.messages import Fault, Seen
from tests.hub_server.server import HubServer

__all__ = ["Fault", "HubServer", "Seen", "client_environment"]


def client_environment(server: HubServer, home: Path) -> dict[str, str]:
    """A whole environment for a process that talks to the server, with nothing of the user's own.

    Settings and tokens of the Hub are left out, and its folder is ``home``.
    """
    away = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "TRANSFORMERS_", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(away)}
    return {
        **kept,
        "HF_ENDPOINT": server.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
