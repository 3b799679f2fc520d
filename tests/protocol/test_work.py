"""Proof of work (NIP-13): what an event commits to, and what price rules make of it."""

from __future__ import annotations

import pytest

from pennypost.protocol.errors import ConfigurationError, WorkRequired
from pennypost.protocol.event import Event
from pennypost.protocol.price import Postage, PriceList, Rule, parse_prices, postage
from pennypost.protocol.work import committed_work, difficulty

NOW = 1_700_000_000

OF_THE_NIP = "000000000e9d97a1ab09fc381030b346cdd7a142ad57e6df0b46dc9bef6c7e2d"


def event(bits: int, nonce: list[str] | None, kind: int = 1) -> Event:
    """An unsigned event whose id has exactly that many leading zero bits."""
    identifier = f"{1 << (255 - bits):064x}" if bits < 256 else "0" * 64
    return Event(identifier, "b" * 64, NOW, kind, [["nonce", *nonce]] if nonce else [], "", "c" * 128)


def test_difficulty() -> None:
    assert difficulty(OF_THE_NIP) == 36
    assert difficulty("002f" + "a" * 60) == 10
    assert (difficulty("f" * 64), difficulty("0" * 64)) == (0, 256)


@pytest.mark.parametrize(
    ("bits", "nonce", "work"),
    [
        (20, ["1", "20"], 20),
        (25, ["1", "20"], 20),
        (19, ["1", "20"], 0),
        (20, ["1"], 0),
        (20, None, 0),
        (20, ["1", ""], 0),
        (20, ["1", "-1"], 0),
        (20, ["1", "20.0"], 0),
        (20, ["1", "²0"], 0),
        (20, ["1", "1" * 5_000], 0),
        (20, ["1", "0"], 0),
        (256, ["1", "256"], 256),
    ],
)
def test_committed_work(bits: int, nonce: list[str] | None, work: int) -> None:
    assert committed_work(event(bits, nonce)) == work


def test_work_beside_the_stamp() -> None:
    prices = PriceList((Rule((range(1, 2),), 1, work=16), Rule()))
    assert postage(event(16, ["1", "16"]), 100, NOW, prices).sat == 1
    for lazy in (event(15, ["1", "15"]), event(40, ["1", "15"]), event(40, None)):
        with pytest.raises(WorkRequired):
            postage(lazy, 100, NOW, prices)
    assert postage(event(0, None, kind=2), 100, NOW, prices).sat == 1
    everywhere = PriceList((Rule(work=8),))
    with pytest.raises(WorkRequired):
        everywhere.check_work(event(0, None, kind=20_001))
    everywhere.check_work(event(0, None, kind=5))
    assert (prices.least_work, everywhere.least_work) == (0, 8)


def test_work_instead_of_the_stamp() -> None:
    prices = PriceList((Rule(base=2, work_instead=16),))
    worked, lazy = postage(event(20, ["1", "16"]), 100, NOW, prices), postage(event(40, ["1", "15"]), 100, NOW, prices)
    assert worked == Postage(0, worked.keep_until, free=True, unpriced=True)
    assert (lazy.sat, lazy.free) == (2, False)


def test_price_files() -> None:
    found = parse_prices("[[rule]]\nkinds = [1]\nwork = 20\n[[rule]]\nwork_instead = 24\n")
    assert [(rule.work, rule.work_instead) for rule in found.rules] == [(20, 0), (0, 24)]
    for bad in ("-1", "257", "1.5", '"20"', "true"):
        with pytest.raises(ConfigurationError):
            parse_prices(f"[[rule]]\nwork = {bad}\n")
