"""Where other machines find this one."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from fwlocal.workers import reach


def test_own_addresses_are_this_machines() -> None:
    found = reach.own_addresses()
    assert len(set(found)) == len(found)
    for ip in found:
        assert not ipaddress.IPv4Address(ip).is_loopback
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
            listening.bind((ip, 0))  # which only an address of one's own allows


def test_without_a_route_the_name_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: object) -> list[tuple[object, ...]]:
        assert host == socket.gethostname()
        return [("", "", "", "", (ip, 0)) for ip in ("127.0.1.1", "10.1.2.3", "10.1.2.3")]

    monkeypatch.setattr(reach, "_ELSEWHERE", ("255.255.255.255",))  # not allowed without asking
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert reach.own_addresses() == ("10.1.2.3",)


def test_a_machine_without_a_network_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_ELSEWHERE", ("127.0.0.1",))
    assert reach.own_addresses() == ()
