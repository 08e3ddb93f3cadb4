"""An answer as the request's Range and the planned fault change it. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from email.message import Message

from tests.hub_server.messages import Answer, Fault, Request

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def _span(text: str, size: int) -> tuple[int, int] | None:
    """The bytes a Range header asks for: empty beyond the end, None where it makes no sense."""
    match = _RANGE.fullmatch(text.strip())
    first, last = match.groups() if match else ("", "")
    if first and last and int(last) < int(first):
        return None
    if first:
        return int(first), min(int(last) + 1, size) if last else size
    return (max(size - int(last), 0), size) if last else None


def ranged(answer: Answer, request: Request) -> Answer:
    """What of the file is sent: all, a part (206), nothing beyond the end (416) or at all (412)."""
    if answer.blob is None:
        return answer
    etag, size = answer.headers["ETag"], answer.blob.size
    wanted = [tag.strip() for tag in request.headers.get("If-Match", "*").split(",")]
    if "*" not in wanted and etag not in wanted:
        return replace(answer, status=412, blob=None)
    span = None
    if request.method == "GET" and request.headers.get("If-Range", etag) == etag:
        span = _span(request.headers.get("Range", ""), size)
    if span is None:
        return replace(answer, status=200, start=0, stop=size)
    start, stop = span
    if start >= stop:
        headers = {**answer.headers, "Content-Range": f"bytes */{size}"}
        return replace(answer, status=416, blob=None, headers=headers)
    headers = {**answer.headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return replace(answer, status=206, headers=headers, start=start, stop=stop)


def hits(fault: Fault, request: Request, answer: Answer) -> bool:
    api = answer.name.startswith("/api/")
    if fault.path not in answer.name or (api and not fault.path):
        return False
    if fault.method not in ("", request.method) or fault.where not in ("any", request.where):
        return False
    if fault.flip_byte is not None:
        return answer.blob is not None and answer.start <= fault.flip_byte < answer.stop
    return fault.after_bytes is None or answer.blob is not None


def spoiled(fault: Fault, request: Request, answer: Answer) -> Answer:
    """The answer with those of the fault's wrongs that stand in its head."""
    if fault.status == 200:
        request = replace(request, headers=Message())
    elif fault.status is not None:
        return replace(
            answer, status=fault.status, headers=fault.headers, body=b"planned", blob=None
        )
    headers = {**answer.headers, **fault.headers}
    if fault.etag is not None:
        tags = {"ETag", "X-Linked-Etag"} & set(headers)
        headers.update(dict.fromkeys(tags, f'"{fault.etag}"'))
    return ranged(replace(answer, headers=headers), request)
