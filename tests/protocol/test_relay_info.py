"""The relay information document: as Keychat and others read it, and as we read others'."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.price import PriceList, Rule
from pennypost.protocol.relay_info import ReadPostage, read_postage, relay_information

MINT, OTHER = "https://mint.example.com", "http://127.0.0.1:3338"


def document(prices: PriceList | None = None, **fields: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "name": "pennypost",
        "description": "mail for a stamp",
        "mints": [MINT, OTHER],
        "payments_url": "https://office.example.com/buy",
        "prices": prices or PriceList(),
        "supported_nips": [42, 1, 11],
        "software": "https://example.com/pennypost",
        "version": "0.1.0",
        "max_message_length": 262_144,
        "max_subscriptions": 64,
        "max_filters": 32,
        "max_limit": 5_000,
        "max_content_length": 131_072,
        "max_event_tags": 2_000,
        "created_at_upper_limit": 900,
    }
    written: dict[str, Any] = json.loads(json.dumps(relay_information(**(defaults | fields))))
    return written


def test_document() -> None:
    found = document()
    assert found["supported_nips"] == [1, 11, 42]
    assert found["payments_url"] == "https://office.example.com/buy"
    assert found["limitation"] == {
        "max_message_length": 262_144,
        "max_subscriptions": 64,
        "max_filters": 32,
        "max_limit": 5_000,
        "default_limit": 5_000,
        "max_subid_length": 64,
        "max_event_tags": 2_000,
        "max_content_length": 131_072,
        "created_at_upper_limit": 900,
        "auth_required": False,
        "payment_required": True,
        "restricted_writes": True,
    }
    assert document(created_at_lower_limit=60)["limitation"]["created_at_lower_limit"] == 60
    assert "pubkey" not in found and "contact" not in found
    assert document(pubkey="a" * 64, identity="b" * 64)["self"] == "b" * 64


def read_as_keychat(found: Any) -> tuple[int, str, list[str]] | None:
    """The conditions of facts.md: a JSON integer, the first entry, the method's mints."""
    if found["limitation"]["payment_required"] is not True:
        return None
    entry = found["fees"]["publication"][0]
    amount = entry["amount"]
    assert type(amount) is int
    return amount, entry["unit"], entry["method"]["Cashu"]["mints"]


def test_both_fee_forms() -> None:
    found = document()
    assert read_as_keychat(found) == (1, "sat", [MINT, OTHER])
    assert found["fees"]["stamp"] == [{"amount": 1, "unit": "sat", "mints": [MINT, OTHER]}]


def test_several_rules() -> None:
    rules = (Rule((range(1, 3),), 5), Rule((range(1_059, 1_060),), 2, per_kib=1), Rule(None, 3, per_day=4))
    found = document(PriceList(rules))
    assert read_as_keychat(found) == (2, "sat", [MINT, OTHER])
    assert found["fees"]["stamp"] == [
        {"amount": 5, "unit": "sat", "kinds": [1, 2], "mints": [MINT, OTHER]},
        {"amount": 2, "unit": "sat", "kinds": [1_059], "per_kib": 1, "mints": [MINT, OTHER]},
        {"amount": 3, "unit": "sat", "per_day": 4, "mints": [MINT, OTHER]},
    ]
    assert [read_postage(found, kind).sat for kind in (1, 1_059, 7)] == [5, 2, 3]
    del found["fees"]["stamp"]
    assert [read_postage(found, kind).sat for kind in (1, 1_059, 7)] == [5, 2, 3]


def test_a_free_office() -> None:
    found = document(PriceList((Rule(base=0),)))
    assert "fees" not in found and "payments_url" not in found
    assert found["limitation"]["payment_required"] is False
    assert found["limitation"]["restricted_writes"] is False
    assert read_as_keychat(found) is None
    assert read_postage(found) == ReadPostage()


def test_read_ours() -> None:
    assert read_postage(document()) == ReadPostage(1, "sat", (MINT, OTHER), "https://office.example.com/buy")


NOTHING = ReadPostage()


def stamp(**fields: Any) -> dict[str, Any]:
    return {"fees": {"stamp": [{"amount": 1, "unit": "sat", "mints": [MINT]} | fields]}}


@pytest.mark.parametrize(
    ("found", "postage"),
    [
        (stamp(), ReadPostage(1, "sat", (MINT,))),
        (stamp(amount=1_500, unit="msat"), ReadPostage(2, "sat", (MINT,))),
        (stamp(kinds=[1_059]), ReadPostage(1, "sat", (MINT,))),
        (stamp(kinds=[1]), NOTHING),
        (stamp(kinds=[True]), NOTHING),
        (stamp(kinds="x"), ReadPostage(1, "sat", (MINT,))),
        (stamp(amount=0), NOTHING),
        (stamp(amount=-1), NOTHING),
        (stamp(amount=True), NOTHING),
        (stamp(amount=1.0), NOTHING),
        (stamp(amount="1"), NOTHING),
        (stamp(amount=2**60), NOTHING),
        (stamp(amount=None), NOTHING),
        (stamp(unit="usd"), NOTHING),
        (stamp(unit=["sat"]), NOTHING),
        (stamp(mints=[]), NOTHING),
        (stamp(mints="https://x"), NOTHING),
        (stamp(mints=[1, None, "ftp://x", "javascript:x", "x" * 600]), NOTHING),
        (stamp(mints=["https://" + "x" * 600, MINT]), ReadPostage(1, "sat", (MINT,))),
        (stamp() | {"payments_url": "https://x/buy"}, ReadPostage(1, "sat", (MINT,), "https://x/buy")),
        (stamp() | {"payments_url": "javascript:alert(1)"}, ReadPostage(1, "sat", (MINT,))),
        ({"fees": {"publication": [{"amount": 100, "unit": "msats", "kinds": [4]}]}}, NOTHING),
        ({"fees": {"publication": [{"amount": 1, "unit": "sat", "method": {"Cashu": None}}]}}, NOTHING),
        (
            {"fees": {"publication": [{"amount": 1, "unit": "sat", "method": {"Cashu": {"mints": [MINT]}}}]}},
            ReadPostage(1, "sat", (MINT,)),
        ),
        ({"fees": []}, NOTHING),
        ({"fees": {"stamp": {}, "publication": {}}}, NOTHING),
        ({"fees": {"stamp": [None, 1, "x"], "publication": [[]]}}, NOTHING),
        ({}, NOTHING),
        ([], NOTHING),
        (None, NOTHING),
        ("x", NOTHING),
    ],
)
def test_read_others(found: object, postage: ReadPostage) -> None:
    assert read_postage(found) == postage


def test_mints_are_bounded() -> None:
    many = [f"https://m{number}.example" for number in range(10_000)]
    assert len(read_postage(stamp(mints=many)).mints) == 64


names = st.sampled_from(["fees", "stamp", "publication", "amount", "unit", "mints", "method", "Cashu", "kinds"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["sat", MINT, ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)


@given(found=json_values, kind=st.integers(0, 65_535))
@settings(max_examples=200, deadline=None)
def test_no_document_breaks_it(found: object, kind: int) -> None:
    postage = read_postage(found, kind)
    assert (postage.sat > 0) == bool(postage.mints)


def test_work_is_announced() -> None:
    """NIP-11: only what every event needs is the relay's minimum; the rest stands with its fee."""
    some = document(PriceList((Rule((range(1, 2),), 1, work=20), Rule(None, 2, work_instead=24))))
    assert "min_pow_difficulty" not in some["limitation"]
    assert some["fees"]["stamp"] == [
        {"amount": 1, "unit": "sat", "kinds": [1], "work": 20, "mints": [MINT, OTHER]},
        {"amount": 2, "unit": "sat", "work_instead": 24, "mints": [MINT, OTHER]},
    ]
    every = document(PriceList((Rule((range(1, 2),), 1, work=20), Rule(None, 2, work=16))))
    assert every["limitation"]["min_pow_difficulty"] == 16
