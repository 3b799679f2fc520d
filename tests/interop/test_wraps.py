"""Gift wraps between our code and ordinary NIP-59 code (nostr-tools), in both directions."""

from __future__ import annotations

import secrets
import time

from pennypost.protocol import secp, stealth
from pennypost.protocol.event import parse_event
from pennypost.protocol.giftwrap import RANDOMNESS, make_rumor, unwrap
from tests.support.foreign import node
from tests.support.relay import plain

ALICE, BOB = b"\x01" * 32, b"\x02" * 32


def test_ordinary_code_opens_a_stealth_letter_with_the_derived_key() -> None:
    now = int(time.time())
    rumor = make_rumor(secp.xonly(ALICE), created_at=now, content="hello Bob ✉", tags=[["p", secp.xonly(BOB).hex()]])
    once = secrets.token_bytes(32)
    event = stealth.wrap_letter(
        rumor,
        ALICE,
        stealth.Address(spend=secp.xonly(BOB), scan=secp.xonly(BOB)),
        once,
        created_at=now,
        expiration=now + 86_400,
        randomness=secrets.token_bytes(RANDOMNESS),
    )
    shared = secp.ecdh_x(BOB, secp.xonly(once))
    derived = secp.tweak_secret(BOB, secp.tagged_hash("stealth", shared, secp.xonly(once)))
    opened = node("wraps.mjs", given={"do": "unwrap", "event": plain(event), "secret": derived.hex()})["rumor"]
    assert (opened["content"], opened["pubkey"], opened["kind"]) == ("hello Bob ✉", secp.xonly(ALICE).hex(), 14)
    assert opened["id"] == rumor.id


def test_our_code_opens_an_ordinary_wrap() -> None:
    event = node(
        "wraps.mjs", given={"do": "wrap", "secret": ALICE.hex(), "to": secp.xonly(BOB).hex(), "text": "hello Bob ✉"}
    )["event"]
    sender, rumor = unwrap(parse_event(event), BOB)
    assert sender == secp.xonly(ALICE)
    assert (rumor.content, rumor.kind) == ("hello Bob ✉", 14)
