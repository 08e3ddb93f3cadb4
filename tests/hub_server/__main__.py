"""``python -m tests.hub_server FOLDER`` serves FOLDER/owner/name/files until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from tests.hub_server.server import HubServer
from tests.hub_server.site import LFS_SUFFIXES


def _serve_folder(folder: Path, server: HubServer) -> None:
    for repo in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        files: dict[str, bytes | Path] = {}
        for path in sorted(path for path in repo.rglob("*") if path.is_file()):
            large = path.name.endswith(LFS_SUFFIXES) or path.stat().st_size > 1 << 20
            files[path.relative_to(repo).as_posix()] = path if large else path.read_bytes()
        server.add(f"{repo.parent.name}/{repo.name}", files)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hub_server", description="A Hub on loopback."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds owner/name/files")
    parser.add_argument("--port", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    with HubServer(arguments.port) as server:
        _serve_folder(arguments.folder, server)
        print(server.endpoint, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("closing", file=sys.stderr)


if __name__ == "__main__":
    main()
