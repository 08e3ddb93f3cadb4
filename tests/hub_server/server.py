"""The two listeners, and what is lost, cut and counted on their way out."""

from __future__ import annotations

import io
import os
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_server.answers import hits, ranged, spoiled
from tests.hub_server.messages import Answer, Blob, Fault, Request, Seen
from tests.hub_server.site import Site

_PIECE = 1 << 20  # bytes of a file handed to the kernel at once
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class HubServer(Site):
    """The Hub at ``endpoint`` and its CDN, while the context is open."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self._port = port
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._sent_bytes = 0
        self._cuts: list[int] = []
        self._cuts_done = 0
        self._cut_hard = True
        self._faults: list[tuple[Fault, int]] = []  # with the matching requests so far
        self._closing = threading.Event()
        self._listeners: list[_Listener] = []

    def __enter__(self) -> HubServer:
        for where, port in (("hub", self._port), ("cdn", 0)):
            self._listeners.append(_Listener(self, where, port))
        self.endpoint, self.cdn = (listener.url for listener in self._listeners)
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        for listener in self._listeners:
            listener.close()

    def plan(self, *faults: Fault) -> None:
        """Let these go wrong; a request meets the first that matches and is due."""
        with self._lock:
            self._faults += [(fault, 0) for fault in faults]

    def forget_faults(self) -> None:
        """Let nothing more go wrong."""
        with self._lock:
            self._faults.clear()

    def cut(self, n_bytes_list: Iterable[int], *, hard: bool = True) -> None:
        """Reset, or close, all connections that carry a file as ``sent_bytes`` reaches each number.

        huggingface_hub 2.4 itself goes on after a connection closed too early, not after a reset.
        """
        with self._lock:
            self._cuts, self._cut_hard = sorted(n_bytes_list), hard

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return list(self._seen)

    @property
    def sent_bytes(self) -> int:
        """Bytes of files that were sent so far."""
        with self._lock:
            return self._sent_bytes

    def reset_counts(self) -> None:
        """Forget the requests and the bytes so far; cuts count from here."""
        with self._lock:
            self._seen, self._sent_bytes = [], 0

    def _due(self, request: Request, answer: Answer) -> Fault:
        with self._lock:
            for index, (fault, met) in enumerate(self._faults):
                if met < fault.skip + fault.times and hits(fault, request, answer):
                    self._faults[index] = (fault, met + 1)
                    if met >= fault.skip:
                        return fault
        return Fault()

    def _note(self, request: Request, status: int) -> Callable[[int], None]:
        """Write a request down; the function returned adds bytes to it."""
        headers = request.headers
        span, authorization = headers["Range"], headers["Authorization"]
        path = unquote(request.path)
        with self._lock:
            # A list of its own, lest a reset in between makes the index another request's.
            seen, index = self._seen, len(self._seen)
            seen.append(Seen(request.method, path, span, status, 0, authorization, request.where))

        def count(n_bytes: int) -> None:
            with self._lock:
                seen[index] = replace(seen[index], sent_bytes=seen[index].sent_bytes + n_bytes)
                if seen is self._seen:
                    self._sent_bytes += n_bytes

        return count

    def _before_cut(self, n_bytes: int) -> int:
        with self._lock:
            left = self._cuts[0] - self._sent_bytes if self._cuts else n_bytes
            return max(1, min(n_bytes, left))

    def _cuts_so_far(self) -> int:
        with self._lock:
            while self._cuts and self._sent_bytes >= self._cuts[0]:
                self._cuts.pop(0)
                self._cuts_done += 1
            return self._cuts_done


class _Listener(ThreadingHTTPServer):
    """One listening socket, its thread and its open connections."""

    request_queue_size = 128

    def __init__(self, hub: HubServer, where: str, port: int) -> None:
        self.hub = hub
        self.where = where
        self.to_reset: set[socket.socket] = set()
        self._connections: set[socket.socket] = set()
        self._connection_threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks DNS for a name

    def process_request(self, request: Any, client_address: Any) -> None:
        arguments = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, daemon=True)
        with self._lock:
            self._connections.add(request)
            alive = [thread for thread in self._connection_threads if thread.is_alive()]
            self._connection_threads = [*alive, thread]
            thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        if request not in self.to_reset:
            super().shutdown_request(request)
            return
        self.to_reset.discard(request)
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # the client went away, as clients do
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster
        for thread in self._connection_threads:
            thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Requests of one connection."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        query = parse_qs(url.query)
        request = Request(self.command, self.server.where, url.path, query, self.headers)
        whole = hub.answer(request)
        fault = hub._due(request, ranged(whole, request))
        answer = spoiled(fault, request, whole)
        count = hub._note(request, answer.status)
        if fault.after_bytes is None and fault.stall_s and hub._closing.wait(fault.stall_s):
            self._lose(hard=True)
            return
        self._send_head(answer)
        if self.command == "GET" and answer.blob is None:
            self.wfile.write(answer.body)
        elif answer.blob is not None and self.command == "GET":
            self._send_file(answer.blob, answer.start, answer.stop, fault, count)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _send_head(self, answer: Answer) -> None:
        n_bytes = len(answer.body) if answer.blob is None else answer.stop - answer.start
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(n_bytes)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(
        self, blob: Blob, start: int, stop: int, fault: Fault, count: Callable[[int], None]
    ) -> None:
        hub = self.server.hub
        if fault.after_bytes is not None:
            stop = min(stop, start + fault.after_bytes)
        cuts = hub._cuts_so_far()
        with blob.open() as file:
            while start < stop and hub._cuts_so_far() == cuts:
                sent = self._send_piece(file, start, stop, fault.flip_byte, count)
                if not sent:  # the file shrank under us
                    self._lose(hard=True)
                    return
                start += sent
        if fault.after_bytes is not None:
            hub._closing.wait(fault.stall_s)
            self._lose(fault.hard)
        elif hub._cuts_so_far() != cuts:
            self._lose(hub._cut_hard)

    def _send_piece(
        self, file: BinaryIO, start: int, stop: int, flip: int | None, count: Callable[[int], None]
    ) -> int:
        """Send some bytes of a file and count them, before a client can see them."""
        if flip is not None and start <= flip < stop:
            stop = max(flip, start + 1)
        n_bytes = self.server.hub._before_cut(min(_PIECE, stop - start))
        count(n_bytes)
        sent: int = 0
        try:
            if start != flip and hasattr(os, "sendfile") and not isinstance(file, io.BytesIO):
                sent = os.sendfile(self.connection.fileno(), file.fileno(), start, n_bytes)
            else:
                file.seek(start)
                piece = file.read(n_bytes)
                sent = self.connection.send(piece if start != flip else bytes([piece[0] ^ 0xFF]))
        finally:
            count(sent - n_bytes)
        return sent

    def _lose(self, hard: bool) -> None:
        """End the connection, with a RST once the client's side has what was sent, or a FIN."""
        self.close_connection = True
        if hard:
            _drain(self.connection, self.server.hub._closing)
            self.server.to_reset.add(self.connection)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


def _drain(connection: socket.socket, closing: threading.Event) -> None:
    """Wait, a second at most, until the client's kernel has what was sent: a reset drops the rest.

    Only Linux tells; elsewhere a moment must do.
    """
    if sys.platform != "linux":
        closing.wait(0.05)
        return
    import fcntl
    import termios

    for _ in range(1000):
        unsent = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]
        if not unsent or closing.wait(0.001):
            return
