"""Who asks: one row a way to look like somebody else."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from pennypost.protocol.errors import TooMany
from pennypost_mint.runtime import sources as sourcing
from pennypost_mint.runtime.limits import MAX_FORWARDED
from pennypost_mint.runtime.sources import RateLimit, Sources

PROXIES = [ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("2001:db8:1::/48")]
PROXY = "10.1.2.3"


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    return {
        "client": None if peer is None else (peer, 50_000),
        "headers": [(b"host", b"mint"), *((b"x-forwarded-for", each.encode()) for each in forwarded)],
    }


SAME = [
    ("a stranger's header is not read", ("203.0.113.5", "198.51.100.1"), ("203.0.113.5",)),
    ("the proxy's is", (PROXY, "198.51.100.1"), ("198.51.100.1",)),
    ("an address mapped into IPv6", ("::ffff:203.0.113.5",), ("203.0.113.5",)),
    ("a proxy mapped into IPv6", (f"::ffff:{PROXY}", "198.51.100.1"), ("198.51.100.1",)),
    ("the last hop counts, not what the stranger wrote", (PROXY, "1.1.1.1, 198.51.100.1"), ("198.51.100.1",)),
    ("proxies behind each other", (PROXY, "1.1.1.1, 198.51.100.1, 192.0.2.7, 10.9.9.9"), ("198.51.100.1",)),
    ("two headers are one list", (PROXY, "1.1.1.1", "198.51.100.1,192.0.2.7"), ("198.51.100.1",)),
    ("a hop with a port", (PROXY, "198.51.100.1:443"), ("198.51.100.1",)),
    ("an IPv6 hop with a port", (PROXY, "[2001:db8:5::1]:443"), ("2001:db8:5::1",)),
    ("no header", (PROXY,), (PROXY,)),
    ("an empty header", (PROXY, ""), (PROXY,)),
    ("garbage from the proxy", (PROXY, "unknown"), (PROXY,)),
    ("garbage behind a proxy", (PROXY, "1.1.1.1, _hidden, 192.0.2.7"), ("192.0.2.7",)),
    ("other digits", (PROXY, "١.2.3.4"), (PROXY,)),
    ("a number", (PROXY, "16909060"), (PROXY,)),
    ("more hops than are read", (PROXY, "1.1.1.1," * MAX_FORWARDED + "198.51.100.1"), ("198.51.100.1",)),
    ("one customer of an IPv6 network", ("2001:db8:7::1",), ("2001:db8:7::ffff",)),
    ("no peer", (None,), ("not an address",)),
]
DIFFERENT = [
    ("two strangers", ("203.0.113.5",), ("203.0.113.6",)),
    ("two behind the proxy", (PROXY, "203.0.113.5"), (PROXY, "203.0.113.6")),
    ("two IPv6 networks", ("2001:db8:7:1::1",), ("2001:db8:7:2::1",)),
    ("an IPv6 proxy and whom it names", ("2001:db8:1::1",), ("2001:db8:1::1", "203.0.113.5")),
    ("a stranger and no peer", ("203.0.113.5",), (None,)),
]


@pytest.mark.parametrize(("one", "other"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_the_same_source(one: Any, other: Any) -> None:
    sources = Sources(PROXIES)
    assert sources.of(scope(*one)) == sources.of(scope(*other))


@pytest.mark.parametrize(("one", "other"), [row[1:] for row in DIFFERENT], ids=[row[0] for row in DIFFERENT])
def test_different_sources(one: Any, other: Any) -> None:
    sources = Sources(PROXIES)
    assert sources.of(scope(*one)) != sources.of(scope(*other))


def test_no_proxy_is_trusted_unless_named() -> None:
    sources = Sources()
    assert sources.of(scope("127.0.0.1", "198.51.100.1")) == sources.of(scope("127.0.0.1"))


def test_a_source_says_nothing_of_its_address() -> None:
    one, other = Sources().of(scope("203.0.113.5")), Sources().of(scope("203.0.113.5"))
    assert len(one) == 16
    assert one != other


@pytest.fixture
def clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sourcing, "monotonic", lambda: 100.0)


@pytest.mark.usefixtures("clock_stands")
def test_each_source_and_each_kind_of_request_has_its_bucket() -> None:
    limit = RateLimit(1, 10, Sources())
    limit.charge(scope("203.0.113.5"), "swap", 8)
    with pytest.raises(TooMany) as refused:
        limit.charge(scope("203.0.113.5"), "swap", 8)
    assert refused.value.retry_after == 6
    limit.charge(scope("203.0.113.5"), "mint", 8)
    limit.charge(scope("203.0.113.6"), "swap", 8)
    limit.charge(scope("203.0.113.5"), "swap", 1)


@pytest.mark.usefixtures("clock_stands")
def test_a_request_dearer_than_the_bucket_takes_all_of_it() -> None:
    limit = RateLimit(1, 10, Sources())
    limit.charge(scope("203.0.113.5"), "swap", 1_000)
    with pytest.raises(TooMany):
        limit.charge(scope("203.0.113.5"), "swap", 1)


def test_without_a_rate_there_is_no_limit() -> None:
    limit = RateLimit(0, 0, Sources())
    for _ in range(1_000):
        limit.charge(scope("203.0.113.5"), "swap", 1_000)
