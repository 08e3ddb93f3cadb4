"""How workers are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import UsageError
from fwlocal.workers import DEFAULT_PORT, Address, parse_address, parse_addresses


def test_addresses_are_read_in_order() -> None:
    assert parse_addresses(" Box:50053, 10.0.0.2 ,a-b.example_1.:1") == (
        Address("box", 50053),
        Address("10.0.0.2", DEFAULT_PORT),
        Address("a-b.example_1.", 1),
    )
    assert str(parse_address("box")) == "box:50052"


@pytest.mark.parametrize(
    "text",
    ["", " ", "a,,b", "a,", ":50052", "a:", "a:0", "a:65536", "a:-1", "a:+1", "a:1e3", "a: 1",
     "a:٣", "a b", "http://a", "user@a", "a/b", "ä", "-a", ".a", "1.2.3", "1.2.3.256", "127.1",
     "12345", "01.2.3.4", "a\nb", "a\x00", "a:1\n1", "x" * 254],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_addresses(text)


def test_a_comma_at_the_end_is_named() -> None:
    with pytest.raises(UsageError, match="a:1,: there is a comma too many at the end"):
        parse_addresses("a:1,")


@pytest.mark.parametrize("text", ["[::1]:50052", "[fe80::1]", "::1", "a,fd00::2", "a:1:2"])
def test_ipv6_is_not_what_llama_cpp_knows(text: str) -> None:
    with pytest.raises(UsageError, match="IPv4 only; give the worker's IPv4 address"):
        parse_addresses(text)


@pytest.mark.parametrize("scheme", ["http://", "HTTPS://", "tcp://", "git+ssh://"])
@pytest.mark.parametrize("rest", ["127.0.0.1:50061", "box", "[::1]:50052", "a:1/2", ""])
def test_an_address_is_no_url(scheme: str, rest: str) -> None:
    with pytest.raises(UsageError, match="; write HOST:PORT, without ") as raised:
        parse_addresses(scheme + rest)
    assert str(raised.value).endswith(f"without {scheme}")


@pytest.mark.parametrize("text", ["a,a", "a,b,A:50052", "127.0.0.1:1,b,127.0.0.1:1"])
def test_one_worker_twice(text: str) -> None:
    with pytest.raises(UsageError, match="are one and the same; name it once"):
        parse_addresses(text)


HOSTS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z0-9]{1,8}){0,3}", fullmatch=True)
IPS = st.ip_addresses(v=4).map(str)
ADDRESSES = st.builds(Address, st.one_of(HOSTS, IPS), st.integers(1, 65535))


@given(st.lists(ADDRESSES, min_size=1, max_size=5, unique=True))
def test_what_is_written_is_read_back(addresses: list[Address]) -> None:
    assert parse_addresses(",".join(map(str, addresses))) == tuple(addresses)


@given(st.text())
def test_any_text_is_addresses_or_a_usage_error(text: str) -> None:
    try:
        addresses = parse_addresses(text)
    except UsageError:
        return
    assert all(str(address).isascii() and 0 < address.port < 2**16 for address in addresses)
