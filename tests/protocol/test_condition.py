from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.condition import Condition, spending_condition

KEY = "02" + "ab" * 32
BODY: dict[str, object] = {"nonce": "n", "data": KEY}


def locked(kind: object = "P2PK", **changes: object) -> str:
    return json.dumps([kind, BODY | changes])


@pytest.mark.parametrize(
    ("secret", "condition"),
    [
        (locked(), Condition("P2PK", KEY)),
        (locked(tags=[]), Condition("P2PK", KEY)),
        (locked(tags=None), Condition("P2PK", KEY)),
        (locked("HTLC"), Condition("HTLC", KEY)),
        (locked("nobody knows"), Condition("nobody knows", KEY)),
        (locked(extra=1), Condition("P2PK", KEY)),
        (locked(data=""), Condition("P2PK", "")),
        (locked(tags=[["n_sigs", "2"], ["pubkeys"]]), Condition("P2PK", KEY, (("n_sigs", "2"), ("pubkeys",)))),
        (" \t\r\n" + locked(), Condition("P2PK", KEY)),
        (locked().replace("P2PK", "\\u00502PK"), Condition("P2PK", KEY)),
        (locked(x=1).replace("1}", "1e999}"), Condition("P2PK", KEY)),
        (locked(x=1).replace("1}", "NaN}"), Condition("P2PK", KEY)),
        # Locked, and never to be opened.
        (locked(tags={}), Condition("P2PK", KEY, (), True)),
        (locked(tags=[[]]), Condition("P2PK", KEY, (), True)),
        (locked(tags=[["locktime", 1]]), Condition("P2PK", KEY, (), True)),
        (locked(tags=[["locktime", ""]]), Condition("P2PK", KEY, (), True)),
        (locked(tags=["locktime"]), Condition("P2PK", KEY, (), True)),
        (locked()[:-2] + ', "data": "other"}]', Condition("P2PK", "other", (), True)),
    ],
)
def test_locked(secret: str, condition: Condition) -> None:
    assert spending_condition(secret) == condition


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "a" * 64,
        "[",
        "[]",
        "[[[[",
        "[" * 1024,
        "{}",
        '"P2PK"',
        '["P2PK"]',
        '["P2PK", "data"]',
        '["P2PK", {}]',
        '["P2PK", {"nonce": "n"}]',
        '["P2PK", {"data": "d"}]',
        '["P2PK", {"nonce": 1, "data": "d"}]',
        '["P2PK", {"nonce": "n", "data": null}]',
        locked(1),
        locked(None),
        json.dumps(["P2PK", BODY, 1]),
        json.dumps([BODY, "P2PK"]),
        json.dumps(["P2PK", [BODY]]),
        locked() + "x",
        locked()[:-1],
        locked().replace('"', "'"),
        "\ufeff" + locked(),
        "\u00a0" + locked(),
        '["P2PK", ' + "9" * 5000 + "]",
    ],
)
def test_ordinary(secret: str) -> None:
    assert spending_condition(secret) is None


@settings(max_examples=200)
@given(st.text(max_size=60) | st.text('[]{}",:P2K tags1', max_size=60).map(lambda text: "[" + text))
def test_any_text_is_ordinary_or_locked(secret: str) -> None:
    found = spending_condition(secret)
    assert found is None or isinstance(found, Condition)
