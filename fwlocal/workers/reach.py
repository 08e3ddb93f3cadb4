"""The addresses under which other machines find this one, as far as it can tell by itself.

It asks the routing table, and only without an answer the names; whether a firewall is between, it
does not know.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

# Of the Internet and of the usual private networks: the way to each may have its own interface.
_ELSEWHERE = ("192.0.2.1", "192.168.0.1", "10.0.0.1", "172.16.0.1")
_DISCARD_PORT = 9


def own_addresses() -> tuple[str, ...]:
    """This machine's IPv4 addresses that others may reach, the likeliest first; () where none is
    found."""
    found = [*map(_address_towards, _ELSEWHERE)]
    if not any(found):
        found = _addresses_of_its_name()
    return tuple(dict.fromkeys(ip for ip in found if ip and _is_reachable(ip)))


def _address_towards(ip: str) -> str:
    """The address that a packet to ``ip`` would come from; none is sent."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent,
    ):
        unsent.connect((ip, _DISCARD_PORT))
        return str(unsent.getsockname()[0])
    return ""


def _addresses_of_its_name() -> list[str]:
    with contextlib.suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        return [str(entry[4][0]) for entry in found]
    return []


def _is_reachable(ip: str) -> bool:
    address = ipaddress.IPv4Address(ip)
    return not address.is_loopback and not address.is_unspecified
