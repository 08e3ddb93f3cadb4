"""Where `fwlocal worker` listens, and what it says to whom."""

from __future__ import annotations

import pytest

from fwlocal.cli.worker import (
    WARNING,
    clients_commands,
    free_port,
    listening_ip,
    network_warning,
)
from fwlocal.errors import FwlocalError, NetworkError, UsageError
from fwlocal.workers import Address, probe, reach


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "localhost", " LOCALHOST "])
def test_loopback_needs_no_permission(host: str) -> None:
    ip = listening_ip(host, is_network_allowed=False)
    assert ip.startswith("127.")
    assert not network_warning(Address(ip))
    assert not clients_commands(Address(ip))


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.2", "8.8.8.8", "255.255.255.255"])
def test_other_addresses_need_permission(host: str) -> None:
    with pytest.raises(UsageError, match="an SSH tunnel, or say --allow-network"):
        listening_ip(host, is_network_allowed=False)
    assert listening_ip(host, is_network_allowed=True) == host
    assert network_warning(Address(host))[0] == WARNING


def test_another_machine_is_told_what_to_type_and_a_safer_way() -> None:
    address = Address("10.0.0.2", 50071)
    assert clients_commands(address) == (
        "on the other machine: `fwlocal run --workers 10.0.0.2:50071`",
    )
    assert network_warning(address)[1] == (
        "safer: leave --host and --allow-network out, and on the other machine "
        "`ssh -N -L 50071:127.0.0.1:50071 10.0.0.2`, then --workers 127.0.0.1:50071"
    )


def test_all_addresses_of_this_machine_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = Address("0.0.0.0", 50071)
    monkeypatch.setattr(reach, "own_addresses", lambda: ("192.168.0.7", "10.8.0.2"))
    assert clients_commands(everywhere) == (
        "on the other machine: `fwlocal run --workers 192.168.0.7:50071`",
        "or: `fwlocal run --workers 10.8.0.2:50071`",
    )
    assert "`ssh -N -L 50071:127.0.0.1:50071 192.168.0.7`" in network_warning(everywhere)[1]
    monkeypatch.setattr(reach, "own_addresses", lambda: ())
    assert "--workers ADDRESS:50071`" in clients_commands(everywhere)[0]


@pytest.mark.parametrize("host", ["", "::", "a b", "nosuchhost.invalid"])
def test_what_is_no_address_to_listen_on(host: str) -> None:
    with pytest.raises(UsageError, match="no IPv4 address"):
        listening_ip(host, is_network_allowed=True)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(FwlocalError, match=r"192\.0\.2\.77:\d+ cannot be listened on"):
        free_port("192.0.2.77", 50052)


def test_port_0_is_a_free_one() -> None:
    port = free_port("127.0.0.1", 0)
    assert port > 0
    with pytest.raises(NetworkError, match="no one listens"):
        probe(Address("127.0.0.1", port))
