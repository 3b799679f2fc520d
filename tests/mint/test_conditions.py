"""Locked proofs over the mint's routes: one row an attack, and what is kept of what unlocked them (NUT-10, 11, 14, 07).

Whatever is refused leaves the proofs unspent and signs nothing.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pennypost.protocol import bdhke
from pennypost.protocol.errors import LockMalformed, ProofLocked
from pennypost.protocol.lock import Lock, lock_secret
from pennypost.protocol.nuts import BlindedMessage, Proof
from pennypost.protocol.witness import is_sig_all, sig_all_hash, sign_all, sign_inputs, with_preimage
from pennypost_mint.swap import CHUNK
from tests.mint.desk import SWAP, Body, Desk, locked_output, open_desk, settings_for
from tests.support.locks import (
    AUX,
    FUTURE,
    HASH,
    PAST,
    PREIMAGE,
    htlc,
    key,
    p2pk,
    secret_key,
    secret_of,
    signature,
    signed,
    twin,
    witness,
)
from tests.support.stamps import output

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = PREIMAGE.hex()
SIG_ALL = ["sigflag", "SIG_ALL"]

Secret = Callable[[str], str]
"""A secret from its nonce."""
Unlock = Callable[[str], Any]
"""A witness from the secret."""


def nonce() -> str:
    return secrets.token_hex(16)


def pay_to(*tags: Sequence[object], data: int | str = 1) -> Secret:
    return lambda fresh: p2pk(*tags, data=data, nonce=fresh)


def hash_to(*tags: Sequence[object], data: str = HASH) -> Secret:
    return lambda fresh: htlc(*tags, data=data, nonce=fresh)


def by(*signers: int, **more: Any) -> Unlock:
    return lambda secret: signed(secret, *signers, **more)


def shows(preimage: object) -> Unlock:
    return lambda _secret: witness(preimage=preimage)


def exactly(text: object) -> Unlock:
    return lambda _secret: text


async def locked(desk: Desk, *made: str, amount: int = 8) -> list[Body]:
    """Proofs with these secrets, signed by the mint."""
    return await desk.buy_outputs([locked_output(amount, secret) for secret in made])


async def witnesses(desk: Desk, proofs: Sequence[Body]) -> list[str | None]:
    """What the mint says unlocked these spent proofs (NUT-07)."""
    Ys = [bdhke.hash_to_curve(proof["secret"].encode()).hex() for proof in proofs]
    states = (await desk.done("/v1/checkstate", {"Ys": Ys}))["states"]
    assert [state["state"] for state in states] == ["SPENT"] * len(proofs)
    return [state["witness"] for state in states]


async def refused_without_harm(desk: Desk, inputs: list[Body], outputs: list[Body], error: Any) -> None:
    status, answer = await desk.ask(SWAP, {"inputs": inputs, "outputs": outputs})
    assert (status, answer.get("code"), set(answer)) == (400, 10001, {"detail", "code"})
    assert answer["detail"].endswith(f"[{error.code}]")
    assert set(await desk.states(inputs)) == {"UNSPENT"}
    assert await desk.signed(outputs) == 0


TWO = pay_to(["pubkeys", key(2), key(3)], ["n_sigs", "2"])
KEYED = hash_to(["pubkeys", key(1)], ["locktime", FUTURE], ["refund", key(4)])
KEYED_OVER = hash_to(["pubkeys", key(1)], ["locktime", PAST], ["refund", key(4)])
REFUND = pay_to(["locktime", PAST], ["refund", key(4), key(5)], ["n_sigs_refund", "2"])

REFUSED: list[tuple[str, Secret, Unlock, type[ProofLocked] | type[LockMalformed]]] = [
    ("P2PK: none", pay_to(), exactly(None), ProofLocked),
    ("P2PK: an empty text", pay_to(), exactly(""), ProofLocked),
    ("P2PK: no signatures", pay_to(), by(), ProofLocked),
    ("P2PK: wrong key", pay_to(), by(2), ProofLocked),
    ("P2PK: wrong message", pay_to(), exactly(witness([signature("x", 1)])), ProofLocked),
    ("P2PK: no JSON", pay_to(), exactly("x"), ProofLocked),
    ("P2PK: deep JSON", pay_to(), exactly("[" * 1_000), ProofLocked),
    ("P2PK: signatures of no kind", pay_to(), exactly(witness(["", "00", "zz" * 64])), ProofLocked),
    ("P2PK: one of two", TWO, by(1), ProofLocked),
    ("P2PK: same signature twice", TWO, lambda s: witness([signature(s, 1)] * 2), ProofLocked),
    (
        "P2PK: two signatures of one key",
        TWO,
        lambda s: witness([signature(s, 1), signature(s, 1, b"\1" * 32)]),
        ProofLocked,
    ),
    ("P2PK: twin keys", pay_to(["pubkeys", twin(1)], ["n_sigs", "2"]), by(1), LockMalformed),
    ("P2PK: twin keys, one needed", pay_to(["pubkeys", twin(1)]), by(1), LockMalformed),
    ("P2PK: n_sigs 0", pay_to(["n_sigs", "0"]), by(1), LockMalformed),
    ("P2PK: n_sigs 0, none", pay_to(["n_sigs", "0"]), exactly(None), LockMalformed),
    ("P2PK: n_sigs over the keys", pay_to(["n_sigs", "2"]), by(1), LockMalformed),
    ("P2PK: n_sigs Arabic", pay_to(["n_sigs", "١"]), by(1), LockMalformed),
    ("P2PK: n_sigs with an underscore", pay_to(["n_sigs", "1_0"]), by(1), LockMalformed),
    ("P2PK: a tag twice", pay_to(["locktime", FUTURE], ["locktime", PAST]), by(1), LockMalformed),
    ("P2PK: keys in two tags", pay_to(["pubkeys", key(2)], ["pubkeys", key(3)]), by(1), LockMalformed),
    ("P2PK: an unknown tag", pay_to(["x", "y"]), by(1), LockMalformed),
    ("P2PK: an unknown flag", pay_to(["sigflag", "SIG_NONE"]), by(1), LockMalformed),
    *(
        (f"P2PK: locktime {value!r}", pay_to(["locktime", value]), unlock, LockMalformed)
        for value in ("x", "-1", "0", "1.5", " 1", "9" * 30)
        for unlock in (exactly(None), by(1))
    ),
    ("P2PK: locktime a number", pay_to(["locktime", 1]), exactly(None), LockMalformed),
    ("P2PK: a tag that is empty", pay_to([]), by(1), LockMalformed),
    ("P2PK: data no key", pay_to(data="x"), by(1), LockMalformed),
    ("P2PK: data off the curve", pay_to(data="02" + "ff" * 32), by(1), ProofLocked),
    ("P2PK: refund before the locktime", pay_to(["locktime", FUTURE], ["refund", key(4)]), by(4), ProofLocked),
    ("P2PK: one refund key of two", REFUND, by(4), ProofLocked),
    ("P2PK: locktime over, none, refund keys", REFUND, exactly(None), ProofLocked),
    ("HTLC: none", hash_to(), exactly(None), ProofLocked),
    ("HTLC: wrong preimage", hash_to(), shows("00" * 32), ProofLocked),
    ("HTLC: 33 bytes", hash_to(data=sha256(bytes(33)).hexdigest()), shows("00" * 33), ProofLocked),
    ("HTLC: 31 bytes", hash_to(data=sha256(bytes(31)).hexdigest()), shows("00" * 31), ProofLocked),
    ("HTLC: the preimage a list", hash_to(), shows([HELLO]), ProofLocked),
    ("HTLC: preimage without the key", KEYED, shows(HELLO), ProofLocked),
    ("HTLC: preimage and another key", KEYED, by(2, preimage=HELLO), ProofLocked),
    ("HTLC: key without the preimage", KEYED, by(1), ProofLocked),
    ("HTLC: refund before the locktime", KEYED, by(4), ProofLocked),
    ("HTLC: n_sigs without keys", hash_to(["n_sigs", "1"]), shows(HELLO), LockMalformed),
    ("HTLC: data no hash", hash_to(data=key(1)), by(1, preimage=HELLO), LockMalformed),
    ("SIG_ALL: none", pay_to(SIG_ALL), exactly(None), ProofLocked),
    ("SIG_ALL: over the input only", pay_to(SIG_ALL), by(1), ProofLocked),
]


@pytest.mark.parametrize(("made", "unlock", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refused(shared_desk: Desk, made: Secret, unlock: Unlock, error: Any) -> None:
    secret = made(nonce())
    [proof] = await locked(shared_desk, secret)
    [plain] = await shared_desk.buy(8)
    inputs = [plain, proof | {"witness": unlock(secret)}]
    await refused_without_harm(shared_desk, inputs, shared_desk.messages([output(16)]), error)


TAKEN: list[tuple[str, Secret, Unlock]] = [
    ("P2PK", pay_to(), by(1)),
    ("P2PK: the key with the other parity", pay_to(data=twin(1)), by(1)),
    ("P2PK: SIG_INPUTS said", pay_to(["sigflag", "SIG_INPUTS"]), by(1)),
    ("P2PK: two of three", TWO, by(3, 1)),
    ("P2PK: nonsense beside a good signature", pay_to(), lambda s: witness(["", "00" * 64, signature(s, 1)], more=1)),
    ("P2PK: locktime over, the key", REFUND, by(1)),
    ("P2PK: locktime over, refund", REFUND, by(4, 5)),
    ("P2PK: locktime over, nobody to refund, none", pay_to(["locktime", PAST]), exactly(None)),
    ("HTLC", hash_to(), shows(HELLO)),
    ("HTLC: preimage and key", KEYED, by(1, preimage=HELLO)),
    ("HTLC: refund", KEYED_OVER, by(4)),
    ("HTLC: refund beside a wrong preimage", KEYED_OVER, by(4, preimage="00" * 32)),
    ("HTLC: refund beside a preimage of any type", KEYED_OVER, by(4, preimage=[None])),
    ("HTLC: locktime over, nobody to refund, none", hash_to(["pubkeys", key(1)], ["locktime", PAST]), exactly(None)),
    ("SIG_ALL: locktime over, nobody to refund, none", pay_to(SIG_ALL, ["locktime", PAST]), exactly(None)),
]


@pytest.mark.parametrize(("made", "unlock"), [row[1:] for row in TAKEN], ids=[row[0] for row in TAKEN])
async def test_taken_and_told(shared_desk: Desk, made: Secret, unlock: Unlock) -> None:
    secret = made(nonce())
    proofs = await locked(shared_desk, secret)
    given = unlock(secret)
    body = {"inputs": [proofs[0] | {"witness": given}], "outputs": shared_desk.messages([output(8)])}
    first = await shared_desk.done(SWAP, body)
    assert await witnesses(shared_desk, proofs) == [given]
    assert await shared_desk.done(SWAP, body) == first
    body["outputs"] = shared_desk.messages([output(8)])
    assert await shared_desk.refused(SWAP, body) == 11001


async def test_a_witness_may_come_as_an_object(shared_desk: Desk) -> None:
    secret = p2pk(nonce=nonce())
    [proof] = await locked(shared_desk, secret)
    given = json.loads(signed(secret, 1))
    await shared_desk.done(SWAP, {"inputs": [proof | {"witness": given}], "outputs": shared_desk.messages([output(8)])})
    [told] = await witnesses(shared_desk, [proof])
    assert told is not None and json.loads(told) == given


@pytest.mark.parametrize("secret", [lambda n: n, lambda n: secret_of("P2SH", key(1), ["n_sigs", "0"], [], nonce=n)])
async def test_what_nothing_locks_needs_no_witness_and_keeps_none(shared_desk: Desk, secret: Secret) -> None:
    """An ordinary secret, and a kind that is not known (NUT-10, Caution)."""
    proofs = await locked(shared_desk, secret(nonce()), secret(nonce()))
    inputs = [proofs[0], proofs[1] | {"witness": "anything"}]
    await shared_desk.done(SWAP, {"inputs": inputs, "outputs": shared_desk.messages([output(16)])})
    assert await witnesses(shared_desk, proofs) == [None, None]


# The whole swap under one signature.


def as_wallet(inputs: Sequence[Body], outputs: Sequence[Body]) -> tuple[list[Proof], list[BlindedMessage]]:
    return msgspec.convert(inputs, list[Proof]), msgspec.convert(outputs, list[BlindedMessage])


def together(inputs: Sequence[Body], outputs: Sequence[Body], *signers: int, preimage: bytes | None = None) -> Any:
    """The inputs as our wallet signs them."""
    proofs, messages = as_wallet(inputs, outputs)
    assert is_sig_all(proofs)
    if preimage is not None:
        proofs = [*with_preimage(proofs[:1], preimage), *proofs[1:]]
    for signer in signers:
        proofs = sign_all(proofs, messages, secret_key(signer), AUX)
    return msgspec.to_builtins(proofs)


async def sig_all_swap(desk: Desk, *tags: Sequence[object]) -> tuple[list[Body], list[Body]]:
    proofs = await locked(desk, *(p2pk(SIG_ALL, *tags, nonce=nonce()) for _ in range(2)))
    return proofs, desk.messages([output(8), output(4), output(4)])


async def test_sig_all_unlocks_every_input(shared_desk: Desk) -> None:
    inputs, outputs = await sig_all_swap(shared_desk, ["pubkeys", key(2)], ["n_sigs", "2"])
    once = together(inputs, outputs, 1)
    await refused_without_harm(shared_desk, once, outputs, ProofLocked)
    both = together(inputs, outputs, 1, 2)
    await shared_desk.done(SWAP, {"inputs": both, "outputs": outputs})
    assert await witnesses(shared_desk, inputs) == [both[0]["witness"]] * 2


async def test_a_preimage_is_told_for_every_input_of_sig_all(shared_desk: Desk) -> None:
    """Whoever waits for the preimage asks for his own proof, wherever in the swap it was."""
    proofs = await locked(shared_desk, *(htlc(SIG_ALL, ["pubkeys", key(1)], nonce=nonce()) for _ in range(2)))
    outputs = shared_desk.messages([output(16)])
    inputs = together(proofs, outputs, 1, preimage=PREIMAGE)
    inputs[1]["witness"] = "junk"
    await shared_desk.done(SWAP, {"inputs": inputs, "outputs": outputs})
    for told in await witnesses(shared_desk, proofs):
        assert told is not None and json.loads(told)["preimage"] == HELLO


SigAllAttack = Callable[[Desk, list[Body], list[Body]], tuple[list[Body], list[Body]]]


def _over(message: Callable[[list[Body], list[Body]], str]) -> SigAllAttack:
    def attack(_desk: Desk, inputs: list[Body], outputs: list[Body]) -> tuple[list[Body], list[Body]]:
        first = inputs[0] | {"witness": witness([signature(message(inputs, outputs), 1)])}
        return [first, *inputs[1:]], outputs

    return attack


def _then(change: Callable[[Desk, list[Body], list[Body]], tuple[list[Body], list[Body]]]) -> SigAllAttack:
    """Well signed, then changed."""
    return lambda desk, inputs, outputs: change(desk, together(inputs, outputs, 1), outputs)


SIG_ALLS: list[tuple[str, SigAllAttack]] = [
    ("over the inputs only", _over(lambda i, o: "".join(p["secret"] + p["C"] for p in i))),
    ("over the outputs only", _over(lambda i, o: "".join(f"{p['amount']}{p['B_']}" for p in o))),
    (
        "the older form",
        _over(lambda i, o: "".join(p["secret"] for p in i) + "".join(p["B_"] for p in o)),
    ),
    ("over the first input only", _over(lambda i, o: i[0]["secret"])),
    ("outputs in another order", _then(lambda d, i, o: (i, o[::-1]))),
    ("an output swapped", _then(lambda d, i, o: (i, [*d.messages([output(8)]), *o[1:]]))),
    ("amounts between outputs swapped", _then(lambda d, i, o: (i, [o[0] | {"amount": 4}, o[1] | {"amount": 8}, o[2]]))),
    ("inputs in another order", _then(lambda d, i, o: (i[::-1], o))),
    ("the witness in the second input", _then(lambda d, i, o: ([i[1], i[0]], o))),
    (
        "each input signed alone",
        lambda d, i, o: ([p | {"witness": signed(p["secret"], 1)} for p in i], o),
    ),
    ("no witness", lambda d, i, o: (i, o)),
    ("another key", lambda d, i, o: ([i[0] | {"witness": _stranger(i, o)}, *i[1:]], o)),
]


def _stranger(inputs: list[Body], outputs: list[Body]) -> str:
    return witness([signature(sig_all_hash(*as_wallet(inputs, outputs)), 2)])


@pytest.mark.parametrize("attack", [row[1] for row in SIG_ALLS], ids=[row[0] for row in SIG_ALLS])
async def test_sig_all_is_for_exactly_this_swap(shared_desk: Desk, attack: SigAllAttack) -> None:
    inputs, outputs = await sig_all_swap(shared_desk)
    changed, wanted = attack(shared_desk, inputs, outputs)
    await refused_without_harm(shared_desk, changed, wanted, ProofLocked)
    await shared_desk.done(SWAP, {"inputs": together(inputs, outputs, 1), "outputs": outputs})


BESIDE: list[tuple[str, Secret]] = [
    ("an ordinary one", lambda fresh: fresh),
    ("SIG_INPUTS", pay_to()),
    ("another key", pay_to(SIG_ALL, data=2)),
    ("the same key with the other parity", pay_to(SIG_ALL, data=twin(1))),
    ("other tags", pay_to(SIG_ALL, ["locktime", FUTURE])),
    ("another kind", hash_to(SIG_ALL)),
    ("a kind nobody knows", lambda fresh: secret_of("P2SH", key(1), SIG_ALL, nonce=fresh)),
]


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("beside", [row[1] for row in BESIDE], ids=[row[0] for row in BESIDE])
async def test_sig_all_goes_with_its_like_only(shared_desk: Desk, beside: Secret, first: bool) -> None:
    other, own = beside(nonce()), p2pk(SIG_ALL, nonce=nonce())
    proofs = await locked(shared_desk, *((other, own) if first else (own, other)))
    outputs = shared_desk.messages([output(16)])
    message = sig_all_hash(*as_wallet(proofs, outputs))
    unlocking = witness([signature(message, 1), signature(message, 2), signature(other, 1)], preimage=HELLO)
    inputs = [proof | {"witness": unlocking} for proof in proofs]
    await refused_without_harm(shared_desk, inputs, outputs, ProofLocked)


# At once, in pieces, in processes.


async def test_the_right_witness_once_among_a_hundred(shared_desk: Desk) -> None:
    secret = p2pk(nonce=nonce())
    [proof] = await locked(shared_desk, secret)
    bodies = [
        {
            "inputs": [proof | {"witness": signed(secret, 1 if number % 2 else 2)}],
            "outputs": shared_desk.messages([output(8)]),
        }
        for number in range(60)
    ]
    answers = await asyncio.gather(*(shared_desk.ask(SWAP, body) for body in bodies))
    counts = Counter((status, answer.get("code")) for status, answer in answers)
    assert counts == {(200, None): 1, (400, 11001): 29, (400, 10001): 30}


async def test_a_wallets_swap_through_worker_processes(tmp_path: Path) -> None:
    lock = Lock("HTLC", HASH, (key(1), key(2)), 2, 99_999_999_999, (key(3),))
    async with open_desk(settings_for(tmp_path), processes=2) as desk:
        count = CHUNK + 3
        proofs = await locked(desk, *(lock_secret(lock, secrets.token_bytes(32)) for _ in range(count)), amount=1)
        outputs = desk.messages([output(1) for _ in range(count)])
        given = with_preimage(as_wallet(proofs, outputs)[0], PREIMAGE)
        once = sign_inputs(given, secret_key(2), AUX)
        await refused_without_harm(desk, msgspec.to_builtins(once), outputs, ProofLocked)
        twice = sign_inputs(once, secret_key(1), AUX)
        # The last of all, in the second piece, signed by a stranger.
        spoilt = [*twice[:-1], msgspec.structs.replace(once[-1], witness=signed(once[-1].secret, 8, 9, preimage=HELLO))]
        await refused_without_harm(desk, msgspec.to_builtins(spoilt), outputs, ProofLocked)
        await desk.done(SWAP, {"inputs": msgspec.to_builtins(twice), "outputs": outputs})
        assert await witnesses(desk, proofs) == [each.witness for each in twice]

        many = await locked(desk, *(p2pk(SIG_ALL, nonce=nonce()) for _ in range(count)), amount=1)
        outputs = desk.messages([output(1) for _ in range(count)])
        await desk.done(SWAP, {"inputs": together(many, outputs, 1), "outputs": outputs})


async def test_the_mint_says_that_it_checks_conditions(shared_desk: Desk) -> None:
    told = (await shared_desk.http.get("/v1/info")).json()["nuts"]
    assert [told[number] for number in ("7", "10", "11", "14")] == [{"supported": True}] * 4
