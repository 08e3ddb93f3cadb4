"""A file's bytes by Xet, the Hub's own chunked storage, where huggingface_hub can use it.

Only an accelerator: every failure is left to plain HTTP, which serves the same files. The calls are
those of ``huggingface_hub.file_download.xet_get``, with a position to start from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._runtime import is_xet_available

from fwlocal.hub.remote_file import RemoteFile


def stream(file: RemoteFile, start: int) -> Iterator[bytes]:
    """Bytes of ``file`` from ``start`` on, in order; they end early, or at once, when Xet is not
    there or fails."""
    if not is_xet_available():  # HF_HUB_DISABLE_XET, or no hf_xet for this platform
        return
    with contextlib.suppress(Exception):
        yield from _stream(file, start)


def _stream(file: RemoteFile, start: int) -> Iterator[bytes]:
    from hf_xet import XetFileInfo
    from huggingface_hub.utils._xet import (
        get_xet_session,
        refresh_xet_connection_info,
        xet_headers_without_auth,
    )

    found = file.find_xet()
    if found is None:
        return
    headers = build_hf_headers()
    connection = refresh_xet_connection_info(file_data=found, headers=headers)
    session = get_xet_session()  # type: ignore[no-untyped-call]
    group = session.new_download_stream_group(
        endpoint=connection.endpoint,
        token=connection.access_token,
        token_expiry_unix_secs=connection.expiration_unix_epoch,
        token_refresh_url=found.refresh_route,
        token_refresh_headers=headers,
        custom_headers=xet_headers_without_auth(headers),
    )
    pieces = group.download_stream(XetFileInfo(found.file_hash, file.size_bytes), start=start)
    try:
        yield from pieces
    finally:
        pieces.cancel()
