"""What an EVENT is answered: one test a row of the wire contract's table, over a real socket on both databases."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import httpx
import pytest

from pennypost.protocol import bdhke
from pennypost.protocol.event import Event, event_json
from tests.postoffice.house import DAY, Author, House, wrap
from tests.support.relay import plain


async def test_stored_and_spent(house: House) -> None:
    event, proof = wrap(), house.purse.proof()
    async with house.relay() as relay:
        answer = await relay.post(event, house.purse.token(proof))
        until = next(tag[1] for tag in event.tags if tag[0] == "expiration")
        assert (answer.accepted, answer.message) == (True, f"accepted: until {until}")
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]
    assert await house.spent(proof) == [True]


async def test_the_same_event_again(house: House) -> None:
    """With the same stamp, another one, a bad one or none: stored already, and no stamp is touched."""
    event, proof, other = wrap(), house.purse.proof(), house.purse.proof()
    async with house.relay() as relay:
        await relay.post(event, house.purse.token(proof))
        for token in (house.purse.token(proof), house.purse.token(other), "cashuB", None):
            answer = await relay.post(event, token)
            assert answer.duplicate and answer.message == "duplicate: already stored"
    assert await house.spent(proof, other) == [True, False]


async def test_the_same_frame_while_the_first_is_under_way(house: House) -> None:
    """Keychat repeats a frame up to four times; every copy gets an OK, and one stamp is spent."""
    event, proof = wrap(), house.purse.proof()
    async with house.relay() as relay:
        answers = await asyncio.gather(*(relay.post(event, house.purse.token(proof)) for _ in range(5)))
    assert [answer.accepted for answer in answers] == [True] * 5
    assert sorted(answer.duplicate for answer in answers) == [False, True, True, True, True]


async def test_without_a_stamp(house: House) -> None:
    async with house.relay() as relay:
        answer = await relay.post(wrap())
    assert (answer.accepted, answer.code) == (False, "stamp-required")
    assert answer.message.startswith(f"blocked: stamp required: 1 sat, buy at {house.url}/buy")


async def test_a_spent_stamp_on_another_event(house: House) -> None:
    proof = house.purse.proof()
    event = wrap()
    async with house.relay() as relay:
        await house.pay(relay, [wrap()])
        assert (await relay.post(wrap(), house.purse.token(proof))).accepted
        for _ in range(2):
            answer = await relay.post(event, house.purse.token(proof))
            assert (answer.accepted, answer.code) == (False, "stamp-spent")
            assert answer.message.startswith("blocked: invalid stamp: already spent")
        assert await relay.fetch({"ids": [event.id]}) == []
        assert (await relay.post(event, house.purse.token())).accepted


async def test_one_stamp_on_two_events_at_once(house: House) -> None:
    proof = house.purse.proof()
    events = [wrap(), wrap()]
    async with house.relay() as one, house.relay() as two:
        answers = await asyncio.gather(
            one.post(events[0], house.purse.token(proof)), two.post(events[1], house.purse.token(proof))
        )
        assert sorted(answer.accepted for answer in answers) == [False, True]
        assert {answer.code for answer in answers if not answer.accepted} == {"stamp-spent"}
        assert len(await one.fetch({"ids": [event.id for event in events]})) == 1


async def test_one_event_with_two_stamps_at_once(house: House) -> None:
    event = wrap()
    proofs = [house.purse.proof(), house.purse.proof()]
    async with house.relay() as one, house.relay() as two:
        answers = await asyncio.gather(
            one.post(event, house.purse.token(proofs[0])), two.post(event, house.purse.token(proofs[1]))
        )
    assert [answer.accepted for answer in answers] == [True, True]
    assert sorted(await house.spent(*proofs)) == [False, True]


async def test_crossed_pairs_of_stamps(house: House) -> None:
    a, b = house.purse.proof(), house.purse.proof()
    async with house.relay() as one, house.relay() as two:
        answers = await asyncio.gather(
            one.post(wrap(), house.purse.token(a, b)), two.post(wrap(), house.purse.token(b, a))
        )
    assert sorted(answer.accepted for answer in answers) == [False, True]
    assert await house.spent(a, b) == [True, True]


async def test_overlapping_pairs_leave_the_rest_untouched(house: House) -> None:
    a, b, c = (house.purse.proof() for _ in range(3))
    async with house.relay() as relay:
        answers = await asyncio.gather(
            relay.post(wrap(), house.purse.token(a, b)), relay.post(wrap(), house.purse.token(b, c))
        )
    assert [answer.accepted for answer in answers] == [True, False]
    assert await house.spent(a, b, c) == [True, True, False]


async def test_expired(house: House) -> None:
    """Kept time over: the stamp is not even looked at."""
    async with house.relay() as relay:
        for event in (wrap(expires_in=0), wrap(expires_in=-DAY), Author().sign(1, age=31 * DAY)):
            answer = await relay.post(event, "no token at all")
            assert (answer.accepted, answer.code) == (False, "expired")
            assert answer.message.startswith("invalid: expired")


async def test_older_and_newer_versions(house: House) -> None:
    """Replaceable and addressable: the later one, and of the same second the lower id, whatever the order."""
    author = Author()
    now = int(time.time())
    for kind, tags in ((10_001, []), (30_001, [["d", "list"]])):
        twins = sorted((author.sign(kind, *tags, at=now) for _ in range(2)), key=lambda event: event.id)
        old = author.sign(kind, *tags, at=now - 10)
        new = author.sign(kind, *tags, at=now + 10)
        async with house.relay() as relay:
            await house.pay(relay, [old, twins[1], twins[0]])
            for stale in (old, twins[1]):
                proof = house.purse.proof()
                answer = await relay.post(stale, house.purse.token(proof))
                assert (answer.accepted, answer.code) == (False, "newer")
                assert answer.message.startswith("duplicate: have a newer one")
                assert await house.spent(proof) == [False]
            assert await relay.fetch({"authors": [author.pubkey], "kinds": [kind]}) == [plain(twins[0])]
            await house.pay(relay, [new])
            assert await relay.fetch({"authors": [author.pubkey], "kinds": [kind]}) == [plain(new)]


async def test_versions_at_once(house: House) -> None:
    """Ten versions of one address in one batch: all are answered, the newest is left."""
    author = Author()
    now = int(time.time())
    versions = [author.sign(30_002, ["d", ""], at=now - age) for age in range(10)]
    async with house.relay() as relay:
        answers = await asyncio.gather(*(relay.post(event, house.purse.token()) for event in reversed(versions)))
        assert answers[-1].accepted
        assert {answer.code for answer in answers if not answer.accepted} <= {"newer"}
        assert await relay.fetch({"authors": [author.pubkey]}) == [plain(versions[0])]


async def test_auth_event_as_event(house: House) -> None:
    async with house.relay() as relay:
        answer = await relay.post(Author().sign(22_242, ["relay", house.url], ["challenge", "x"]), house.purse.token())
    assert not answer.accepted and answer.message.startswith("invalid:")


async def test_ephemeral(house: House) -> None:
    """Free, never stamped; `mute:` when nobody listens; passed on when somebody does; never stored."""
    author, proof = Author(), house.purse.proof()
    async with house.relay() as relay, house.relay() as listener:
        answer = await relay.post(author.sign(20_001), house.purse.token(proof))
        assert (answer.accepted, answer.code) == (False, "mute") and answer.message.startswith("mute:")
        assert await house.spent(proof) == [False]
        await listener.frames.get()
        await listener.send(["REQ", "live", {"authors": [author.pubkey]}])
        assert (await listener.frames.get())[0] == "EOSE"
        event = author.sign(23_194)
        assert (await relay.post(event)).accepted
        assert await listener.frames.get() == ["EVENT", "live", plain(event)]
        assert await relay.fetch({"ids": [event.id]}) == []


@pytest.mark.parametrize("kind", [13_194, 10_002, 10_050, 10_443])
async def test_free_kinds(house: House, kind: int) -> None:
    """A stamp on a free event is not touched."""
    proof = house.purse.proof()
    event = Author().sign(kind)
    async with house.relay() as relay:
        answer = await relay.post(event, house.purse.token(proof))
        assert answer.accepted and answer.message.startswith("accepted: until ")
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]
    assert await house.spent(proof) == [False]


async def test_from_the_future(house: House) -> None:
    async with house.relay() as relay:
        answer = await relay.post(Author().sign(1, age=-3_600), house.purse.token())
    assert (answer.accepted, answer.code) == (False, "future") and answer.message.startswith("invalid:")


async def test_kept_too_long(house: House) -> None:
    async with house.relay() as relay:
        answer = await relay.post(wrap(expires_in=400 * DAY), house.purse.token())
    assert (answer.accepted, answer.code) == (False, "ttl")


async def test_reposts_of_protected_events(house: House) -> None:
    """NIP-70: not with the event inside; naming it is fine, and so is whatever else a repost holds."""
    author, fan, proof = Author(), Author(), house.purse.proof()
    inside = event_json(author.sign(1, ["-"])).decode()
    async with house.relay() as relay:
        for kind in (6, 16):
            answer = await relay.post(fan.sign(kind, content=inside), house.purse.token(proof))
            assert (answer.accepted, answer.code) == (False, "not-allowed") and answer.message.startswith("restricted:")
        assert await house.spent(proof) == [False]
        open_one = event_json(author.sign(1)).decode()
        await house.pay(relay, [fan.sign(6, ["e", "a" * 64], content=text) for text in (open_one, "{}", "[", "look")])


async def test_protected_events(house: House) -> None:
    """NIP-70: only from their authenticated author."""
    author = Author()
    event = author.sign(1, ["-"])
    async with house.relay() as relay:
        answer = await relay.post(event, house.purse.token())
        assert (answer.accepted, answer.code) == (False, "auth") and answer.message.startswith("auth-required:")
        _, challenge = await relay.frames.get()
        sign_in = author.sign(22_242, ["relay", house.websocket_url], ["challenge", challenge])
        await relay.send(["AUTH", plain(sign_in)])
        assert (await relay.frames.get())[:3] == ["OK", sign_in.id, True]
        assert (await relay.post(event, house.purse.token())).accepted


def _opened(house: House, signature: dict[str, Any], amount: int, secret: str, r: bytes) -> bytes:
    keyset = house.purse.keyring.get(signature["id"])
    K = keyset.keys[amount]
    dleq = signature["dleq"]

    C_ = bytes.fromhex(signature["C_"])
    B_ = bdhke.blind(secret.encode(), r)
    assert bdhke.dleq_verify(K, B_, C_, bytes.fromhex(dleq["e"]), bytes.fromhex(dleq["s"]))
    return bdhke.unblind(C_, r, K)


def _blanks(house: House, count: int) -> list[tuple[str, bytes, dict[str, object]]]:
    made: list[tuple[str, bytes, dict[str, object]]] = []
    for _ in range(count):
        secret, r = secrets.token_hex(32), secrets.token_bytes(32)
        blank = {"amount": 1, "id": house.purse.keyring.active().id, "B_": bdhke.blind(secret.encode(), r).hex()}
        made.append((secret, r, blank))
    return made


async def test_change(house: House) -> None:
    """A stamp of 8 on an event of 1: 7 come back before the OK, and the same signatures again on a repeat."""
    event, blanks = wrap(), _blanks(house, 5)
    token = house.purse.token(house.purse.proof(8))
    options = {"change": [blank for _, _, blank in blanks]}
    async with house.relay() as relay:
        await relay.frames.get()
        assert (await relay.post(event, token, options)).accepted
        name, identifier, signatures = await relay.frames.get()
        assert (name, identifier) == ("CHANGE", event.id)
        assert [signature["amount"] for signature in signatures] == [1, 2, 4]
        assert (await relay.post(event, token, options)).duplicate
        assert await relay.frames.get() == ["CHANGE", event.id, signatures]
        proofs = []
        for (secret, r, _), signature in zip(blanks, signatures, strict=False):
            C = _opened(house, signature, signature["amount"], secret, r)
            proofs.append(house.purse.proof(signature["amount"], secret=secret))
            assert C.hex() == proofs[-1].C
        assert (await relay.post(wrap(), house.purse.token(*proofs))).accepted


async def test_change_for_outputs_signed_before(house: House) -> None:
    """Refused, stamp untouched."""
    blanks = _blanks(house, 1)
    options = {"change": [blanks[0][2]]}
    proof = house.purse.proof(2)
    event = wrap()
    async with house.relay() as relay:
        assert (await relay.post(wrap(), house.purse.token(house.purse.proof(2)), options)).accepted
        answer = await relay.post(event, house.purse.token(proof), options)
        assert (answer.accepted, answer.code) == (False, "output-signed")
        assert await house.spent(proof) == [False]
        assert await relay.fetch({"ids": [event.id]}) == []


async def test_change_for_the_same_outputs_at_once(house: House) -> None:
    blanks = _blanks(house, 1)
    options = {"change": [blanks[0][2]]}
    proofs = [house.purse.proof(2), house.purse.proof(2)]
    async with house.relay() as one, house.relay() as two:
        answers = await asyncio.gather(
            *(
                relay.post(wrap(), house.purse.token(proof), options)
                for relay, proof in zip((one, two), proofs, strict=True)
            )
        )
    assert sorted(answer.accepted for answer in answers) == [False, True]
    assert sorted(await house.spent(*proofs)) == [False, True]


GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"

BAD_CHANGE: list[tuple[str, object]] = [
    ("list", []),
    ("text", "x"),
    ("not a list", {"change": {}}),
    ("65 blanks", {"change": [{}] * 65}),
    ("no keyset", {"change": [{"B_": "02" + "11" * 32}]}),
    ("unknown keyset", {"change": [{"id": "01" + "00" * 32, "B_": "02" + "11" * 32}]}),
    ("upper case", {"change": [{"id": "ID", "B_": ("02" + "ab" * 32).upper()}]}),
    ("off curve", {"change": [{"id": "ID", "B_": "02" + "ff" * 32}]}),
    ("uncompressed", {"change": [{"id": "ID", "B_": "04" + "11" * 64}]}),
    ("number", {"change": [{"id": "ID", "B_": 7}]}),
    ("twice", {"change": [{"id": "ID", "B_": GENERATOR}, {"id": "ID", "B_": GENERATOR}]}),
]


@pytest.mark.parametrize(("name", "options"), BAD_CHANGE, ids=[name for name, _ in BAD_CHANGE])
async def test_bad_change(sqlite_house: House, name: str, options: object) -> None:
    house = sqlite_house
    if isinstance(options, dict):
        for blank in options["change"] if isinstance(options["change"], list) else []:
            if blank.get("id") == "ID":
                blank["id"] = house.purse.keyring.active().id
    proof, event = house.purse.proof(2), wrap()
    async with house.relay() as relay:
        answer = await relay.post(event, house.purse.token(proof), options)  # type: ignore[arg-type]
        assert not answer.accepted and answer.code
        assert (await relay.post(event, house.purse.token(proof))).accepted


async def test_surplus_without_change_is_kept(house: House) -> None:
    proof = house.purse.proof(4)
    async with house.relay() as relay:
        assert (await relay.post(wrap(), house.purse.token(proof))).accepted
    assert await house.spent(proof) == [True]


async def _deleted(house: House, author: Author, *names: list[str], token: str | None = None) -> Event:
    deletion = author.sign(5, *names)
    async with house.relay() as relay:
        answer = await relay.post(deletion, token)
        assert answer.accepted, answer
    return deletion


async def test_deleted_stays_out(house: House) -> None:
    """Deleting one's own is free; the event is gone and does not come back, with any stamp."""
    author = Author()
    event = author.sign(1, expires_in=DAY)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        deletion = await _deleted(house, author, ["e", event.id])
        assert await relay.fetch({"ids": [event.id]}) == []
        assert await relay.fetch({"ids": [deletion.id]}) == [plain(deletion)]
        proof = house.purse.proof()
        answer = await relay.post(event, house.purse.token(proof))
        assert (answer.accepted, answer.code) == (False, "deleted") and answer.message.startswith("blocked: deleted")
        assert await house.spent(proof) == [False]


async def test_a_receiver_deletes_a_wrap(house: House) -> None:
    receiver = Author()
    event = wrap(receiver.pubkey)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        await _deleted(house, receiver, ["e", event.id])
        assert await relay.fetch({"ids": [event.id]}) == []
        assert (await relay.post(event, house.purse.token())).code == "deleted"


async def test_others_delete_nothing(house: House) -> None:
    """A deletion by another needs a stamp, is stored, and has no effect."""
    event, stranger = Author().sign(1), Author()
    async with house.relay() as relay:
        await house.pay(relay, [event])
        deletion = stranger.sign(5, ["e", event.id])
        assert (await relay.post(deletion)).code == "stamp-required"
        await house.pay(relay, [deletion])
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]
        assert (await relay.post(event)).duplicate


async def test_deleted_by_address(house: House) -> None:
    author = Author()
    now = int(time.time())
    address = f"30023:{author.pubkey}:essay"
    first = author.sign(30_023, ["d", "essay"], at=now - 20)
    older = author.sign(30_023, ["d", "essay"], at=now - 15)
    newer = author.sign(30_023, ["d", "essay"], at=now + 60)
    other = author.sign(30_023, ["d", "other"], at=now - 20)
    async with house.relay() as relay:
        await house.pay(relay, [first, other])
        await _deleted(house, author, ["a", address], ["a", f"30023:{'0' * 64}:essay"], ["a", "x"], ["a"])
        assert await relay.fetch({"authors": [author.pubkey], "kinds": [30_023]}) == [plain(other)]
        assert (await relay.post(older, house.purse.token())).code == "deleted"
        await house.pay(relay, [newer])


async def test_an_address_without_d(house: House) -> None:
    """`kind:pubkey` is none of an addressable event; `kind:pubkey:` is the one whose `d` is empty or missing."""
    author = Author()
    now = int(time.time())
    missing = author.sign(30_023, at=now - 20)
    named = author.sign(30_023, ["d", "x"], at=now - 20)
    async with house.relay() as relay:
        await house.pay(relay, [missing, named])
        deletion = author.sign(5, ["a", f"30023:{author.pubkey}"])
        assert (await relay.post(deletion)).code == "stamp-required"
        await house.pay(relay, [deletion])
        assert len(await relay.fetch({"authors": [author.pubkey], "kinds": [30_023]})) == 2
        await _deleted(house, author, ["a", f"30023:{author.pubkey}:"])
        assert await relay.fetch({"authors": [author.pubkey], "kinds": [30_023]}) == [plain(named)]
        assert (await relay.post(missing, house.purse.token())).code == "deleted"


async def test_a_deletion_is_not_deleted(house: House) -> None:
    author = Author()
    event = author.sign(1)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        first = await _deleted(house, author, ["e", event.id])
        second = author.sign(5, ["e", first.id])
        assert (await relay.post(second)).code == "stamp-required"
        await house.pay(relay, [second])
        assert await relay.fetch({"ids": [first.id]}) == [plain(first)]


async def test_a_deletion_before_its_target(house: House) -> None:
    """It needs a stamp, since nothing of its author's is there; its target stays out, another author's does not."""
    author, other = Author(), Author()
    mine, foreign = author.sign(1), other.sign(1)
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(5, ["e", mine.id], ["e", foreign.id])])
        assert (await relay.post(mine, house.purse.token())).code == "deleted"
        await house.pay(relay, [foreign])


async def test_an_event_and_its_deletion_at_once(house: House) -> None:
    author = Author()
    event = author.sign(1)
    deletion = author.sign(5, ["e", event.id])
    async with house.relay() as relay:
        answers = await asyncio.gather(relay.post(event, house.purse.token()), relay.post(deletion))
        assert [answer.accepted for answer in answers] == [True, True]
        assert await relay.fetch({"ids": [event.id]}) == []


async def test_a_deletion_is_kept_as_long_as_its_targets(house: House) -> None:
    author = Author()
    event = author.sign(1, expires_in=90 * DAY)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        answer = await relay.post(author.sign(5, ["e", event.id]))
    assert answer.message == f"accepted: until {event.tags[-1][1]}"


async def test_http_twin(house: House) -> None:
    """POST /v1/events: the same steps, 402 with what it costs, 400 for a wrong stamp."""
    event, proof = wrap(), house.purse.proof()
    async with httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        refused = await http.post("/v1/events", json=plain(event))
        assert refused.status_code == 402 and refused.headers["x-cashu"].startswith("creqA")
        wrong = await http.post("/v1/events", json=plain(event), headers={"x-cashu": "cashuBxx"})
        assert wrong.status_code == 400
        stored = await http.post("/v1/events", json=plain(event), headers={"x-cashu": house.purse.token(proof)})
        assert (stored.status_code, stored.json()["accepted"], stored.json()["id"]) == (200, True, event.id)
        again = await http.post("/v1/events", json=plain(event))
        assert again.json()["message"] == "duplicate: already stored"
        assert (await http.post("/v1/events", content=b"[")).status_code == 400
        assert (await http.post("/v1/events", content=b"x" * 300_000)).status_code == 413
    assert await house.spent(proof) == [True]
