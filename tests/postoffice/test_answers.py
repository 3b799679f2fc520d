"""The table of the wire contract (section 1, Stamps): answer, code, HTTP status and what became of the stamp.

Each row over WebSocket and over HTTP, on both databases. After a refusal the event is not there, and a stamp that is
untouched is still good for another event.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cbor2
import httpx
import msgspec
import pytest

from pennypost.protocol.event import Event
from pennypost.protocol.lock import Lock, lock_secret
from pennypost.protocol.price import parse_prices
from pennypost.protocol.token import Proof
from tests.postoffice.house import DAY, Author, House, wrap
from tests.support.relay import Answer, Relay, plain

DEAR = 7
"""A kind that costs 3 sat in these tests."""

PRICES = f"""
[[rule]]
kinds = [{DEAR}]
base = 3
[[rule]]
"""


class Sent(NamedTuple):
    """What is posted: an event, a token, and the proofs in it that a refusal must leave."""

    event: Event
    token: str | None
    proofs: tuple[Proof, ...] = ()


class Row(NamedTuple):
    """`accepted`, the NIP-01 prefix, the code, whether the proofs are spent afterwards, the status over HTTP."""

    send: Callable[[Desk], Awaitable[Sent]]
    accepted: bool
    prefix: str
    code: str
    spent: bool
    status: int


@dataclass
class Desk:
    """Posts over one of the two ways; `relay` is for what has to be there before."""

    house: House
    relay: Relay
    http: httpx.AsyncClient
    way: str

    async def post(self, sent: Sent) -> tuple[Answer, int]:
        """The answer and its status: 200 where there is none."""
        if self.way == "websocket":
            return await self.relay.post(sent.event, sent.token), 200
        headers = {"origin": "https://client.example"} | ({} if sent.token is None else {"x-cashu": sent.token})
        response = await self.http.post("/v1/events", json=plain(sent.event), headers=headers)
        content = response.json()
        message = content["message"] if "message" in content else content["detail"]
        assert response.headers["access-control-allow-origin"] == "*"
        return Answer(content.get("accepted", False), message), response.status_code

    def stamped(self, event: Event, *proofs: Proof, **token: Any) -> Sent:
        """The event with these proofs, with one good stamp without any."""
        chosen = proofs or (self.house.purse.proof(),)
        return Sent(event, self.house.purse.token(*chosen, **token), chosen)


async def good(desk: Desk) -> Sent:
    return desk.stamped(wrap())


async def again(desk: Desk) -> Sent:
    event = wrap()
    await desk.house.pay(desk.relay, [event])
    return desk.stamped(event)


async def again_without_a_stamp(desk: Desk) -> Sent:
    return (await again(desk))._replace(token=None)


async def older(desk: Desk) -> Sent:
    author = Author()
    await desk.house.pay(desk.relay, [author.sign(10_001)])
    return desk.stamped(author.sign(10_001, age=600))


async def no_stamp(desk: Desk) -> Sent:
    return Sent(wrap(), None)


async def malformed(desk: Desk) -> Sent:
    return Sent(wrap(), "cashuBxx")


async def wrong_mint(desk: Desk) -> Sent:
    return desk.stamped(wrap(), url="https://mint.example")


async def wrong_unit(desk: Desk) -> Sent:
    return desk.stamped(wrap(), unit="usd")


async def unknown_keyset(desk: Desk) -> Sent:
    return desk.stamped(wrap(), msgspec.structs.replace(desk.house.purse.proof(), id="01" + "ab" * 32))


async def locked(desk: Desk) -> Sent:
    secret = lock_secret(Lock("P2PK", "02" + Author().pubkey), secrets.token_bytes(32))
    return desk.stamped(wrap(), desk.house.purse.proof(secret=secret))


async def too_little(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(DEAR))


async def forged(desk: Desk) -> Sent:
    return desk.stamped(wrap(), desk.house.purse.proof(key_of=2))


async def spent_elsewhere(desk: Desk) -> Sent:
    proof = desk.house.purse.proof()
    assert (await desk.relay.post(wrap(), desk.house.purse.token(proof))).accepted
    return desk.stamped(wrap(), proof)


async def deleted(desk: Desk) -> Sent:
    author = Author()
    event = author.sign(1)
    await desk.house.pay(desk.relay, [event])
    assert (await desk.relay.post(author.sign(5, ["e", event.id]))).accepted
    return desk.stamped(event)


async def expired(desk: Desk) -> Sent:
    return desk.stamped(wrap(expires_in=-10))


async def kept_time_over(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(1, age=31 * DAY))


async def auth_as_event(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(22_242, ["relay", desk.house.url], ["challenge", "x"]))


async def unheard(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(20_001))


async def heard(desk: Desk) -> Sent:
    author = Author()
    await desk.relay.send(["REQ", "live", {"authors": [author.pubkey]}])
    while (await desk.relay.frames.get())[0] != "EOSE":
        pass
    return desk.stamped(author.sign(20_001))


async def own_deletion(desk: Desk) -> Sent:
    author = Author()
    event = author.sign(1)
    await desk.house.pay(desk.relay, [event])
    return desk.stamped(author.sign(5, ["e", event.id]))


async def receivers_deletion(desk: Desk) -> Sent:
    receiver = Author()
    event = wrap(receiver.pubkey)
    await desk.house.pay(desk.relay, [event])
    return desk.stamped(receiver.sign(5, ["e", event.id]))


async def deletion_of_nothing(desk: Desk) -> Sent:
    return Sent(Author().sign(5, ["e", secrets.token_hex(32)]), None)


async def deletion_of_anothers(desk: Desk) -> Sent:
    event = Author().sign(1)
    await desk.house.pay(desk.relay, [event])
    return Sent(Author().sign(5, ["e", event.id]), None)


async def paid_deletion(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(5, ["e", secrets.token_hex(32)]))


async def free_kind(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(10_002))


async def from_the_future(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(1, age=-3_600))


async def too_long(desk: Desk) -> Sent:
    return desk.stamped(wrap(expires_in=400 * DAY))


async def another_id(desk: Desk) -> Sent:
    return desk.stamped(msgspec.structs.replace(wrap(), content="another"))


async def another_signature(desk: Desk) -> Sent:
    return desk.stamped(msgspec.structs.replace(wrap(), sig=wrap().sig))


async def protected(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(1, ["-"]))


async def two_holds(desk: Desk) -> Sent:
    return desk.stamped(Author().sign(1, ["hold", "0" * 64], ["hold", "0" * 64]))


ROWS: dict[str, Row] = {
    "stored": Row(good, True, "accepted: until", "", True, 200),
    "the same event again": Row(again, True, "duplicate: already stored", "", False, 200),
    "again, without a stamp": Row(again_without_a_stamp, True, "duplicate: already stored", "", False, 200),
    "older than the stored one": Row(older, False, "duplicate: have a newer one", "newer", False, 403),
    "no stamp": Row(no_stamp, False, "blocked: stamp required: 1 sat, buy at", "stamp-required", False, 402),
    "malformed": Row(malformed, False, "blocked: invalid stamp: malformed", "stamp-malformed", False, 400),
    "wrong mint": Row(wrong_mint, False, "blocked: invalid stamp: wrong mint", "stamp-mint", False, 400),
    "wrong unit": Row(wrong_unit, False, "blocked: invalid stamp: wrong unit", "stamp-unit", False, 400),
    "unknown keyset": Row(unknown_keyset, False, "blocked: invalid stamp: unknown", "stamp-keyset", False, 400),
    "locked": Row(locked, False, "blocked: invalid stamp: locked to someone else", "stamp-locked", False, 400),
    "too little": Row(too_little, False, "blocked: invalid stamp: too little", "stamp-too-little", False, 400),
    "forged": Row(forged, False, "blocked: invalid stamp: forged", "stamp-forged", False, 400),
    "spent elsewhere": Row(spent_elsewhere, False, "blocked: invalid stamp: already spent", "stamp-spent", True, 400),
    "once deleted": Row(deleted, False, "blocked: deleted", "deleted", False, 410),
    "expired": Row(expired, False, "invalid: expired", "expired", False, 400),
    "kept time over": Row(kept_time_over, False, "invalid: expired", "expired", False, 400),
    "kind 22242": Row(auth_as_event, False, "invalid:", "event", False, 400),
    "ephemeral, nobody listens": Row(unheard, False, "mute:", "mute", False, 404),
    "ephemeral, heard": Row(heard, True, "accepted:", "", False, 200),
    "deletion of one's own": Row(own_deletion, True, "accepted: until", "", False, 200),
    "deletion by a wrap's receiver": Row(receivers_deletion, True, "accepted: until", "", False, 200),
    "deletion of nothing": Row(deletion_of_nothing, False, "blocked: stamp required", "stamp-required", False, 402),
    "deletion of another's": Row(deletion_of_anothers, False, "blocked: stamp required", "stamp-required", False, 402),
    "deletion of nothing, paid": Row(paid_deletion, True, "accepted: until", "", True, 200),
    "free kind": Row(free_kind, True, "accepted: until", "", False, 200),
    "from the future": Row(from_the_future, False, "invalid:", "future", False, 403),
    "too long": Row(too_long, False, "blocked:", "ttl", False, 403),
    "another id": Row(another_id, False, "invalid:", "signature", False, 400),
    "another signature": Row(another_signature, False, "invalid:", "signature", False, 400),
    "protected": Row(protected, False, "auth-required:", "auth", False, 401),
    "two holds": Row(two_holds, False, "invalid:", "event", False, 400),
}


@pytest.mark.parametrize("way", ["websocket", "http"])
async def test_table(house: House, way: str) -> None:
    house.office.policy.prices = parse_prices(PRICES)
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        desk = Desk(house, relay, http, way)
        for name, row in ROWS.items():
            sent = await row.send(desk)
            answer, status = await desk.post(sent)
            assert (answer.accepted, answer.code) == (row.accepted, row.code), name
            # over HTTP a refusal before anything was taken is the body of an error, without the prefix
            if way == "websocket":
                assert answer.message.startswith(row.prefix), (name, answer.message)
            else:
                assert status == row.status, name
            # what became of the stamp is said in every refusal
            assert row.accepted or "stamp" in answer.message or "taken" in answer.message, (name, answer.message)
            assert await house.spent(*sent.proofs) == [row.spent] * len(sent.proofs), name
            if not row.accepted:
                assert await relay.fetch({"ids": [sent.event.id]}) == [], name
            if sent.proofs and not row.spent and row.code in GOOD_STILL:
                assert (await relay.post(wrap(), house.purse.token(*sent.proofs))).accepted, name
            elif row.accepted and row.prefix.startswith("accepted: until"):
                assert (await relay.post(sent.event, sent.token)).duplicate, name


GOOD_STILL = {
    "",
    "newer",
    "deleted",
    "expired",
    "event",
    "mute",
    "future",
    "ttl",
    "signature",
    "auth",
    "stamp-too-little",
}
"""Codes of refusals whose stamp is a good one."""


async def test_what_a_402_asks_for(sqlite_house: House) -> None:
    """NUT-24: a payment request (NUT-18) with amount, unit and mints, in a header that pages of any origin may read."""
    house = sqlite_house
    house.office.policy.prices = parse_prices(PRICES)
    page = {"origin": "https://client.example"}
    async with httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        for kind, sat in ((1, 1), (DEAR, 3)):
            event = Author().sign(kind)
            asked = await http.post("/v1/events", json=plain(event), headers=page)
            assert asked.status_code == 402
            assert "x-cashu" in asked.headers["access-control-expose-headers"].lower()
            version, body = asked.headers["x-cashu"][:5], asked.headers["x-cashu"][5:]
            wanted = cbor2.loads(urlsafe_b64decode(body))
            assert version == "creqA"
            assert wanted == {"a": sat, "u": "sat", "m": [house.url], "s": True, "d": wanted["d"]}
            stamps = [house.purse.proof() for _ in range(sat)]
            headers = page | {"x-cashu": house.purse.token(*stamps)}
            assert (await http.post("/v1/events", json=plain(event), headers=headers)).status_code == 200
        preflight = page | {"access-control-request-method": "POST", "access-control-request-headers": "x-cashu"}
        allowed = await http.options("/v1/events", headers=preflight)
        assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == "*"
        assert "x-cashu" in allowed.headers["access-control-allow-headers"].lower()
