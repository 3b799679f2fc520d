"""Prices: what is charged, how long mail is kept, and price files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import (
    ConfigurationError,
    EventExpired,
    InvalidEvent,
    KindRefused,
    PennypostError,
    TooLong,
)
from pennypost.protocol.event import Event
from pennypost.protocol.price import (
    DAY,
    FREE_KINDS,
    HOUR,
    Postage,
    PriceList,
    Rule,
    keep_until,
    parse_prices,
    postage,
    price_document,
    read_prices,
)

NOW = 1_700_000_000


def event(kind: int = 1, created_at: int = NOW, expiration: object = None) -> Event:
    tags = [] if expiration is None else [["expiration", str(expiration)]]
    return Event("a" * 64, "b" * 64, created_at, kind, tags, "", "c" * 128)


def test_the_default_is_one_sat_for_thirty_days() -> None:
    assert PriceList() == PriceList((Rule(None, 1, 0, 0, 30 * DAY, 365 * DAY),), FREE_KINDS)
    assert postage(event(), 500, NOW, PriceList()) == Postage(1, NOW + 30 * DAY, False)
    assert postage(event(), 50_000, NOW, PriceList()) == Postage(1, NOW + 30 * DAY, False)


@pytest.mark.parametrize("kind", [23_194, 23_195, 13_194, 10_002, 10_050, 10_443])
def test_free_kinds(kind: int) -> None:
    assert postage(event(kind), 500, NOW, PriceList()) == Postage(0, NOW + 30 * DAY, True)


@pytest.mark.parametrize("kind", [0, 1, 5, 1_059, 30_000])
def test_other_kinds_are_stamped(kind: int) -> None:
    assert not postage(event(kind), 500, NOW, PriceList()).free


BY_SIZE = PriceList((Rule(base=3, per_kib=2),))


@pytest.mark.parametrize(("size", "sat"), [(0, 3), (1_024, 3), (1_025, 5), (2_048, 5), (2_049, 7), (65_536, 129)])
def test_size(size: int, sat: int) -> None:
    assert postage(event(), size, NOW, BY_SIZE).sat == sat


BY_DAY = PriceList((Rule(base=1, per_day=10),))


@pytest.mark.parametrize(
    ("seconds", "days"),
    [
        (1, 0),
        (HOUR, 0),
        (HOUR + 1, 1),
        (DAY, 1),
        (DAY + HOUR, 1),
        (DAY + HOUR + 1, 2),
        (30 * DAY, 30),
        (365 * DAY, 365),
    ],
)
def test_days_charged(seconds: int, days: int) -> None:
    until = NOW + seconds
    assert postage(event(expiration=until), 10, NOW, BY_DAY) == Postage(1 + 10 * days, until, False)


@pytest.mark.parametrize("late", [0, 1, DAY])
def test_expired(late: int) -> None:
    with pytest.raises(EventExpired):
        postage(event(expiration=NOW - late), 10, NOW, PriceList())
    with pytest.raises(EventExpired):
        postage(event(created_at=NOW - 30 * DAY - late), 10, NOW, PriceList())
    with pytest.raises(EventExpired):
        postage(event(10_002, created_at=NOW - 30 * DAY - late), 10, NOW, PriceList())


def test_the_longest_time() -> None:
    until = NOW + 365 * DAY + HOUR
    assert postage(event(expiration=until), 10, NOW, PriceList()).keep_until == until
    for prices in (PriceList(), PriceList(free_kinds=frozenset({1}))):
        with pytest.raises(TooLong):
            postage(event(expiration=until + 1), 10, NOW, prices)
    with pytest.raises(TooLong):
        postage(event(expiration=2**53), 10, NOW, PriceList())


@given(created_at=st.integers(0, 2**33), expiration=st.none() | st.integers(0, 2**33), now=st.integers(0, 2**33))
@settings(max_examples=100, deadline=None)
def test_keep_until_knows_no_arrival(created_at: int, expiration: int | None, now: int) -> None:
    given_event = event(created_at=created_at, expiration=expiration)
    until = created_at + 30 * DAY if expiration is None else expiration
    assert keep_until(given_event, PriceList()) == until
    try:
        assert postage(given_event, 10, now, PriceList()).keep_until == until
    except (EventExpired, TooLong) as error:
        assert until <= now if isinstance(error, EventExpired) else until > now + 365 * DAY


def test_an_unreadable_expiration() -> None:
    with pytest.raises(InvalidEvent):
        postage(event(expiration="soon"), 10, NOW, PriceList())


def test_the_first_rule_counts() -> None:
    prices = PriceList((Rule((range(1, 2),), 5, ttl_default=HOUR), Rule((range(1, 10),), 7)), frozenset())
    assert postage(event(1), 10, NOW, prices) == Postage(5, NOW + HOUR, False)
    assert postage(event(2), 10, NOW, prices) == Postage(7, NOW + 30 * DAY, False)
    with pytest.raises(KindRefused):
        postage(event(10), 10, NOW, prices)
    with pytest.raises(KindRefused):
        keep_until(event(10), prices)


def test_a_price_of_zero_needs_no_stamp() -> None:
    assert postage(event(), 10, NOW, PriceList((Rule(base=0),))) == Postage(0, NOW + 30 * DAY, True, unpriced=True)
    assert not postage(event(), 2_000, NOW, PriceList((Rule(base=0, per_kib=1),))).free


def test_price_file() -> None:
    text = """
        free_kinds = [10002, "40-41"]

        [[rule]]
        kinds = [1059, "30000-30001"]
        base = 2
        per_kib = 1
        per_day = 3
        ttl_default = 3600
        ttl_max = 7200

        [[rule]]
    """
    assert parse_prices(text) == PriceList(
        (Rule((range(1_059, 1_060), range(30_000, 30_002)), 2, 1, 3, 3_600, 7_200), Rule()),
        frozenset({10_002, 40, 41}),
    )
    assert parse_prices("") == PriceList()
    assert parse_prices("free_kinds = []").free_kinds == frozenset()
    assert parse_prices('[[rule]]\nkinds = ["0-65535"]').rule(65_535).base == 1


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "rule = 1",
        "rule = [1]",
        "[rule]\nbase = 1",
        "rules = []",
        "free_kinds = 1",
        'free_kinds = ["a"]',
        "free_kinds = [true]",
        "free_kinds = [1.0]",
        "free_kinds = [65536]",
        'free_kinds = ["5-4"]',
        'free_kinds = ["0-65536"]',
        'free_kinds = ["-5"]',
        'free_kinds = ["١-٢"]',
        "[[rule]]\nprice = 1",
        "[[rule]]\nkinds = 1",
        "[[rule]]\nkinds = [-1]",
        "[[rule]]\nbase = -1",
        "[[rule]]\nbase = 1.5",
        "[[rule]]\nbase = true",
        '[[rule]]\nbase = "1"',
        "[[rule]]\nbase = 99999999999999999999",
        "[[rule]]\nper_kib = -1",
        "[[rule]]\nper_day = 1e3",
        "[[rule]]\nttl_default = 0",
        "[[rule]]\nttl_default = 7200\nttl_max = 3600",
        "[[rule]]\nttl_max = 99999999999999",
    ],
)
def test_price_file_refuses(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_prices(text)
    assert "price file" in str(caught.value)


names = st.sampled_from(["rule", "free_kinds", "kinds", "base", "ttl_max", "x"])
toml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(fields=st.dictionaries(names, toml_values, max_size=3))
@settings(max_examples=100, deadline=None)
def test_no_document_breaks_it(fields: dict[str, Any]) -> None:
    try:
        found = read_prices(fields)
    except PennypostError as error:
        assert error.code == "configuration"
    else:
        assert isinstance(found, PriceList)


kinds = st.integers(0, 65_535)
spans = st.tuples(kinds, kinds).map(lambda ends: range(min(ends), max(ends) + 1))
sums = st.integers(0, 2**31)
work = st.integers(0, 256)
rules = st.builds(
    Rule,
    st.none() | st.lists(spans, max_size=3).map(tuple),
    sums,
    sums,
    sums,
    ttl_default=st.integers(1, DAY),
    ttl_max=st.integers(DAY, 100 * DAY),
    work=work,
    work_instead=work,
)
lists = st.builds(
    PriceList, st.lists(rules, max_size=3).map(tuple), st.frozensets(kinds | st.integers(9, 14), max_size=9)
)


@given(prices=lists)
@settings(max_examples=100, deadline=None)
def test_a_list_is_read_back_as_it_was_written(prices: PriceList) -> None:
    document = price_document(prices)
    assert read_prices(json.loads(json.dumps(document))) == prices
    assert price_document(read_prices(document)) == document


def test_the_default_list_is_written_like_a_price_file() -> None:
    document = price_document(PriceList())
    assert document["free_kinds"] == [10_002, 10_050, 10_443, 13_194, "23194-23195"]
    assert document["rule"][0]["base"] == 1 and "kinds" not in document["rule"][0]
