"""Who asks, for limits alone: a number that stands for an address while this process lives, never the address.

    peer ─┬─ not a trusted proxy ─────────────────────────────▶ source
          └─ trusted: X-Forwarded-For from its end, past trusted proxies, to the first address that is not one ─▶ source

A source is one IPv4 address, or one IPv6 network of 64 bits, which is what one customer gets. The number is a keyed
hash whose key is random and never leaves the process, so neither a log nor a dump of these tables names anybody.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from time import monotonic
from typing import Any

from pennypost.protocol.errors import TooMany
from pennypost_mint.runtime.limits import MAX_FORWARDED, MAX_SOURCES, TokenBucket

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

Source = bytes
"""16 bytes that stand for an address."""

NETWORK_BITS = 64
"""Bits of an IPv6 address that stand for one customer."""


class Sources:
    """Finds the source of an ASGI scope. `trusted`: networks whose X-Forwarded-For is believed."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._key = secrets.token_bytes(32)

    def trust(self, networks: Sequence[Network]) -> None:
        """From now on the X-Forwarded-For of these is believed, and nobody else's."""
        self._trusted = tuple(networks)

    def of(self, scope: Mapping[str, Any]) -> Source:
        """The source of a request; all that have no address of their own share one."""
        client: tuple[str, int] | None = scope.get("client")
        peer = client[0] if client else ""
        if self._trusted and self._is_trusted(address := _address(peer)):
            address = self._forwarded(scope["headers"], address)
            peer = str(address)
        return blake2b(_customer(peer).encode(), key=self._key, digest_size=16).digest()

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

    def _forwarded(self, headers: Iterable[tuple[bytes, bytes]], peer: Address | None) -> Address | None:
        """The nearest hop that is not a trusted proxy; the last one known where the header breaks off."""
        given = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        hops = given[-MAX_FORWARDED:].decode("latin-1").split(",")
        if len(given) > MAX_FORWARDED:
            # The first of them was cut in two.
            del hops[0]
        found = peer
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                return found
            found = address
            if not self._is_trusted(address):
                return found
        return found


class RateLimit:
    """Units that a source may spend on each kind of request: `rate` a second, `burst` at once; rate 0: no limit."""

    def __init__(self, rate: float, burst: float, sources: Sources) -> None:
        self._sources = sources
        self.change(rate, burst)

    def change(self, rate: float, burst: float) -> None:
        """Another rate from now on; what sources have saved up begins anew."""
        self.limited = rate > 0
        self._burst = max(1.0, burst)
        self._bucket = TokenBucket(rate, self._burst, monotonic, MAX_SOURCES)

    def charge(self, scope: Mapping[str, Any], kind: str, cost: float) -> None:
        """Takes `cost` units from the source of this ASGI scope. Raises TooMany, which says when to come back."""
        if not self.limited:
            return
        # A request dearer than all that can be saved up takes it all.
        cost = min(cost, self._burst)
        key = (kind, self._sources.of(scope))
        if not self._bucket.take(key, cost):
            error = TooMany()
            error.retry_after = math.ceil(self._bucket.wait(key, cost)) or 1
            raise error


def _address(text: str) -> Address | None:
    """An address as proxies write it, also with a port; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _customer(peer: str) -> str:
    address = _address(peer)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, NETWORK_BITS), strict=False))
    return "" if address is None else str(address)
