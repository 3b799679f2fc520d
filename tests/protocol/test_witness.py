"""Witnesses against the published vectors, one row an attack, and a model that only counts who signed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidKey, LockMalformed, ProofInvalid, ProofLocked, TooManyInputs
from pennypost.protocol.lock import Lock, lock_secret
from pennypost.protocol.nuts import BlindedMessage, Proof
from pennypost.protocol.proof import MAX_WITNESS
from pennypost.protocol.witness import (
    MAX_CHECKS,
    UNLOCKED,
    Claim,
    Way,
    check_witnesses,
    is_sig_all,
    proved,
    read_witness,
    sig_all_hash,
    sign_all,
    sign_inputs,
    verify_witnesses,
    with_preimage,
)
from tests.protocol.vectors import load
from tests.support.locks import (
    AUX,
    FUTURE,
    HASH,
    PAST,
    PREIMAGE,
    htlc,
    key,
    output,
    p2pk,
    proof,
    secret_key,
    secret_of,
    signature,
    signed,
    signed_together,
    twin,
    witness,
)

NOW = 1_700_000_000
VECTORS = load("nut11.json")
OUTPUTS = [output(0), output(1, 4)]


def unlocks(inputs: Sequence[Proof], outputs: Sequence[BlindedMessage] = (), quote: str = "", now: int = NOW) -> bool:
    try:
        verify_witnesses(inputs, outputs, now, quote)
    except ProofInvalid as error:
        assert (error.cashu, error.status) == (10001, 400)
        return False
    return True


@pytest.mark.parametrize("vector", VECTORS["inputs"], ids=lambda vector: vector["name"])
def test_published_inputs(vector: Any) -> None:
    assert unlocks([msgspec.convert(vector["proof"], Proof)]) is vector["valid"]


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["name"])
def test_published_requests(vector: Any) -> None:
    request = vector["request"]
    inputs = msgspec.convert(request["inputs"], list[Proof])
    outputs = msgspec.convert(request["outputs"], list[BlindedMessage])
    quote = request.get("quote", "")
    assert unlocks(inputs, outputs, quote) is vector["valid"]
    if "hash" in vector:
        assert sig_all_hash(inputs, outputs, quote).hex() == vector["hash"]


def row(secret: str, *signers: int, **more: Any) -> Proof:
    return proof(secret, signed(secret, *signers, **more))


MULTI = p2pk(["pubkeys", key(2), key(3)], ["n_sigs", "2"])
OVER = p2pk(["locktime", PAST], ["refund", key(4), key(5)], ["n_sigs_refund", "2"])
BOTH = p2pk(
    ["pubkeys", key(2)], ["n_sigs", "2"], ["locktime", PAST], ["refund", key(4), key(5)], ["n_sigs_refund", "2"]
)
ACTIVE = p2pk(["locktime", FUTURE], ["refund", key(4)])
LOOSE = p2pk(["locktime", PAST])
LATER = p2pk(["locktime", str(NOW)])
HASHED = htlc(["pubkeys", key(1), key(2)], ["locktime", FUTURE], ["refund", key(4)])
HASHED_OVER = htlc(["pubkeys", key(1)], ["locktime", PAST], ["refund", key(4)])
HELLO = PREIMAGE.hex()

INPUTS: list[tuple[str, Proof, bool]] = [
    ("an ordinary secret", proof("ab" * 32), True),
    ("an ordinary secret with a witness", proof("ab" * 32, witness(["00"])), True),
    ("a kind nobody knows", proof(secret_of("P2SH", key(1), ["n_sigs", "0"])), True),
    # P2PK
    ("signed", row(p2pk(), 1), True),
    ("signed, the key written with the other parity", row(p2pk(data=twin(1)), 1), True),
    ("signed, the key in upper case", row(p2pk(data=key(1)[:2] + key(1)[2:].upper()), 1), True),
    ("SIG_INPUTS said", row(p2pk(["sigflag", "SIG_INPUTS"]), 1), True),
    ("a permanent lock and its refund key", row(p2pk(["refund", key(2)]), 2), False),
    ("no witness", proof(p2pk()), False),
    ("no signature", proof(p2pk(), witness([])), False),
    ("a signature of another key", row(p2pk(), 2), False),
    ("a signature of another secret", proof(p2pk(), signed(p2pk(nonce="m"), 1)), False),
    ("a signature over the escaped secret", proof(p2pk(), witness([signature(json.dumps(p2pk()), 1)])), False),
    ("a signature in upper case", proof(p2pk(), witness([signature(p2pk(), 1).upper()])), False),
    ("a signature of 65 bytes", proof(p2pk(), witness([signature(p2pk(), 1) + "01"])), False),
    ("the zero signature", proof(p2pk(), witness(["00" * 64])), False),
    ("a signature that is a number", proof(p2pk(), witness([1])), False),  # type: ignore[list-item]
    ("signatures that are a text", proof(p2pk(), json.dumps({"signatures": signature(p2pk(), 1)})), False),
    ("signatures under another name", proof(p2pk(), json.dumps({"Signatures": [signature(p2pk(), 1)]})), False),
    ("a witness that is a list", proof(p2pk(), json.dumps([signature(p2pk(), 1)])), False),
    ("a witness within a witness", proof(p2pk(), json.dumps(signed(p2pk(), 1))), False),
    ("a good signature among bad ones", proof(p2pk(), witness(["00", "00" * 64, signature(p2pk(), 1)])), True),
    ("data off the curve", row(p2pk(data="02" + "ff" * 32), 1), False),
    # multisig
    ("two of three", row(MULTI, 1, 3), True),
    ("three of three, two needed", row(MULTI, 3, 2, 1), True),
    ("one of the two needed", row(MULTI, 1), False),
    ("the same signature twice", proof(MULTI, witness([signature(MULTI, 1)] * 2)), False),
    (
        "one key's two signatures",
        proof(MULTI, witness([signature(MULTI, 1), signature(MULTI, 1, b"\1" * 32)])),
        False,
    ),
    ("one of the keys and a stranger", row(MULTI, 1, 9), False),
    ("any one key when n_sigs is not said", row(p2pk(["pubkeys", key(2), key(3)]), 3), True),
    ("twin keys, one signature", row(p2pk(["pubkeys", twin(1)], ["n_sigs", "2"]), 1), False),
    (
        "twin keys, two signatures of the one",
        proof(
            p2pk(["pubkeys", twin(1)], ["n_sigs", "2"]),
            witness([signature(p2pk(["pubkeys", twin(1)], ["n_sigs", "2"]), 1, bytes([n]) * 32) for n in (0, 1)]),
        ),
        False,
    ),
    ("the same key twice", row(p2pk(["pubkeys", key(1)]), 1), False),
    ("a key off the curve beside a good one", row(p2pk(["pubkeys", "02" + "ff" * 32]), 1), True),
    # malformed, whoever signs
    ("n_sigs 0", row(p2pk(["n_sigs", "0"]), 1), False),
    ("n_sigs 0 and no witness", proof(p2pk(["n_sigs", "0"])), False),
    ("n_sigs -1", row(p2pk(["n_sigs", "-1"]), 1), False),
    ("n_sigs over the keys", row(p2pk(["n_sigs", "2"]), 1), False),
    ("n_sigs twice", row(p2pk(["pubkeys", key(2)], ["n_sigs", "1"], ["n_sigs", "2"]), 1, 2), False),
    ("locktime twice", row(p2pk(["locktime", FUTURE], ["locktime", PAST]), 1), False),
    ("locktime twice and no witness", proof(p2pk(["locktime", FUTURE], ["locktime", PAST])), False),
    ("an unknown tag", row(p2pk(["memo", "x"]), 1), False),
    ("an unknown signature flag", row(p2pk(["sigflag", "SIG_NONE"]), 1), False),
    *((f"locktime {value!r}", proof(p2pk(["locktime", value])), False) for value in ("x", "-1", "0", "1.5", "1_0")),
    *((f"locktime {value!r}, signed", row(p2pk(["locktime", value]), 1), False) for value in ("x", "-1", "0", " 1")),
    ("a locktime that is a number", proof(p2pk(["locktime", 1])), False),
    ("tags that are none", proof(json.dumps(["P2PK", {"nonce": "n", "data": key(1), "tags": 1}])), False),
    # locktime and refund
    ("locktime not over, signed", row(ACTIVE, 1), True),
    ("locktime not over, signed by the refund key", row(ACTIVE, 4), False),
    ("locktime over, signed by data", row(OVER, 1), True),
    ("locktime over, two refund keys", row(OVER, 5, 4), True),
    ("locktime over, one refund key of two", row(OVER, 4), False),
    ("locktime over, a key of each way does not add up", row(BOTH, 1, 4), False),
    ("locktime over, nobody signed", proof(OVER), False),
    ("locktime over, no refund keys, no witness", proof(LOOSE), True),
    ("locktime over, no refund keys, a witness of nonsense", proof(LOOSE, "x"), True),
    ("locktime now", proof(LATER), False),
    # HTLC
    ("HTLC: the preimage", proof(htlc(), witness(preimage=HELLO)), True),
    ("HTLC: the preimage and an empty list", proof(htlc(), witness([], preimage=HELLO)), True),
    ("HTLC: no witness", proof(htlc()), False),
    ("HTLC: another preimage", proof(htlc(), witness(preimage="00" * 32)), False),
    ("HTLC: the hash for its preimage", proof(htlc(), witness(preimage=HASH)), False),
    (
        "HTLC: a preimage of 33 bytes",
        proof(htlc(data=sha256(bytes(33)).hexdigest()), witness(preimage="00" * 33)),
        False,
    ),
    (
        "HTLC: a preimage of 31 bytes",
        proof(htlc(data=sha256(bytes(31)).hexdigest()), witness(preimage="00" * 31)),
        False,
    ),
    ("HTLC: an empty preimage", proof(htlc(data=sha256().hexdigest()), witness(preimage="")), False),
    ("HTLC: the preimage as text", proof(htlc(data=sha256(b"a" * 32).hexdigest()), witness(preimage="a" * 32)), False),
    (
        "HTLC: the preimage's hex hashed",
        proof(htlc(data=sha256(b"0" * 64).hexdigest()), witness(preimage="0" * 64)),
        False,
    ),
    (
        "HTLC: a preimage in upper case",
        proof(htlc(data=sha256(b"\xab" * 32).hexdigest()), witness(preimage="AB" * 32)),
        False,
    ),
    ("HTLC: a preimage with a line feed", proof(htlc(), witness(preimage=HELLO + "\n")), False),
    ("HTLC: a preimage that is a list", proof(htlc(), witness(preimage=[HELLO])), False),
    ("HTLC: a hash in upper case", proof(htlc(data=HASH.upper()), witness(preimage=HELLO)), True),
    ("HTLC: preimage and signature", row(HASHED, 2, preimage=HELLO), True),
    ("HTLC: preimage without the signature it needs", proof(HASHED, witness(preimage=HELLO)), False),
    ("HTLC: signature without the preimage", row(HASHED, 1), False),
    ("HTLC: signature and another preimage", row(HASHED, 1, preimage="00" * 32), False),
    ("HTLC: preimage and a stranger's signature", row(HASHED, 9, preimage=HELLO), False),
    ("HTLC: the refund key before the locktime", row(HASHED, 4, preimage=HELLO), False),
    ("HTLC: the refund key after the locktime", row(HASHED_OVER, 4), True),
    ("HTLC: the refund key and another preimage", row(HASHED_OVER, 4, preimage="00" * 32), True),
    ("HTLC: the refund key and a preimage of any type", row(HASHED_OVER, 4, preimage={"a": [1]}), True),
    ("HTLC: preimage and key after the locktime", row(HASHED_OVER, 1, preimage=HELLO), True),
    ("HTLC: preimage alone after the locktime, with keys", proof(HASHED_OVER, witness(preimage=HELLO)), False),
    (
        "HTLC: preimage alone after the locktime, without keys",
        proof(htlc(["locktime", PAST], ["refund", key(4)]), witness(preimage=HELLO)),
        True,
    ),
    ("HTLC: locktime over, nobody to refund", proof(htlc(["pubkeys", key(1)], ["locktime", PAST])), True),
    ("HTLC: n_sigs without keys", proof(htlc(["n_sigs", "1"]), witness(preimage=HELLO)), False),
    ("HTLC: its data a key", proof(htlc(data=key(1)), signed(htlc(data=key(1)), 1, preimage=HELLO)), False),
]


@pytest.mark.parametrize(("given", "good"), [each[1:] for each in INPUTS], ids=[each[0] for each in INPUTS])
def test_an_input_alone(given: Proof, good: bool) -> None:
    assert unlocks([given], OUTPUTS) is good
    assert unlocks([proof("ab" * 32), given, row(p2pk(nonce="other"), 1)], OUTPUTS) is good


A, B = p2pk(["sigflag", "SIG_ALL"]), p2pk(["sigflag", "SIG_ALL"], nonce="m")
A2 = p2pk(["sigflag", "SIG_ALL"], ["pubkeys", key(2)], ["n_sigs", "2"])
A_OVER = p2pk(["sigflag", "SIG_ALL"], ["locktime", PAST])
A_REFUND = p2pk(["sigflag", "SIG_ALL"], ["locktime", PAST], ["refund", key(4)])
A_HASH = htlc(["sigflag", "SIG_ALL"])
A_HASH_KEY = htlc(["sigflag", "SIG_ALL"], ["pubkeys", key(1)])


def older_message() -> str:
    """What SIG_ALL signed before C and amounts were part of it."""
    return A + B + "".join(each.B_ for each in OUTPUTS)


def inputs_alone(secrets: Sequence[str]) -> list[Proof]:
    return [row(secret, 1) for secret in secrets]


def over(message: str) -> list[Proof]:
    return [proof(A, witness([signature(message, 1)])), proof(B)]


def together(*secrets: str, by: Sequence[int] = (1,), **more: Any) -> list[Proof]:
    return signed_together(secrets, OUTPUTS, *by, **more)


def C_replaced(inputs: list[Proof]) -> list[Proof]:
    return [*inputs[:-1], msgspec.structs.replace(inputs[-1], C=key(77))]


def moved(inputs: list[Proof]) -> list[Proof]:
    """The witness in the last input instead of the first."""
    (first, *middle, last) = inputs
    return [
        msgspec.structs.replace(first, witness=None),
        *middle,
        msgspec.structs.replace(last, witness=first.witness),
    ]


SWAPS: list[tuple[str, list[Proof], bool]] = [
    ("one input", together(A), True),
    ("two inputs", together(A, B), True),
    ("the second input has a witness of nonsense", [together(A, B)[0], proof(B, "nonsense")], True),
    ("two signatures", together(A2, by=(2, 1)), True),
    ("one signature of two", together(A2), False),
    ("the same signature twice", [proof(A2, witness([signature(sig_all_hash([proof(A2)], OUTPUTS), 1)] * 2))], False),
    ("no witness", [proof(A), proof(B)], False),
    ("another key", together(A, B, by=(2,)), False),
    ("each input alone", inputs_alone([A, B]), False),
    ("over the inputs only", over("".join(each.secret + each.C for each in together(A, B))), False),
    ("over the outputs only", over("".join(str(each.amount) + each.B_ for each in OUTPUTS)), False),
    ("the older form", over(older_message()), False),
    ("the witness in another input", moved(together(A, B)), False),
    ("the inputs in another order", together(A, B)[::-1], False),
    ("an input more", [*together(A), proof(B)], False),
    ("an input less", together(A, B)[:1], False),
    ("another C", C_replaced(together(A, B)), False),
    ("an ordinary input beside", together(A, "ab" * 32), False),
    ("an ordinary input first", together("ab" * 32, A), False),
    ("a signed SIG_INPUTS beside", [together(A, p2pk())[0], row(p2pk(), 1)], False),
    ("another key's lock beside", together(A, p2pk(["sigflag", "SIG_ALL"], data=2), by=(1, 2)), False),
    ("the same key with the other parity beside", together(A, p2pk(["sigflag", "SIG_ALL"], data=twin(1))), False),
    ("other tags beside", together(A, A2, by=(1, 2)), False),
    ("another kind beside", together(A, secret_of("HTLC", key(1), ["sigflag", "SIG_ALL"])), False),
    ("a kind nobody knows beside", together(A, secret_of("P2SH", key(1), ["sigflag", "SIG_ALL"])), False),
    ("a malformed one beside", together(A, p2pk(["sigflag", "SIG_ALL"], ["n_sigs", "0"])), False),
    ("locktime over, nobody to refund", [proof(A_OVER), proof(A_OVER)], True),
    ("locktime over, nobody to refund, an ordinary input beside", [proof(A_OVER), proof("ab" * 32)], False),
    ("locktime over, refund key", together(A_REFUND, A_REFUND, by=(4,)), True),
    ("locktime over, refund key over its input alone", [row(A_REFUND, 4)], False),
    ("HTLC: the preimage", together(A_HASH, A_HASH, by=(), preimage=HELLO), True),
    ("HTLC: the preimage in the second input", moved(together(A_HASH, A_HASH, by=(), preimage=HELLO)), False),
    ("HTLC: preimage and signature", together(A_HASH_KEY, by=(1,), preimage=HELLO), True),
    ("HTLC: preimage without the signature", together(A_HASH_KEY, by=(), preimage=HELLO), False),
    ("HTLC: another preimage", together(A_HASH_KEY, by=(1,), preimage="00" * 32), False),
]


@pytest.mark.parametrize(("inputs", "good"), [each[1:] for each in SWAPS], ids=[each[0] for each in SWAPS])
def test_a_whole_swap(inputs: list[Proof], good: bool) -> None:
    assert unlocks(inputs, OUTPUTS) is good


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        OUTPUTS[:1],
        OUTPUTS[::-1],
        [*OUTPUTS, output(2)],
        [OUTPUTS[0], output(2, 4)],
        [output(0, 4), output(1, 8)],
    ],
)
def test_sig_all_is_for_these_outputs_only(outputs: list[BlindedMessage]) -> None:
    inputs = together(A, B)
    assert unlocks(inputs, OUTPUTS)
    assert not unlocks(inputs, outputs)
    assert not unlocks(inputs, OUTPUTS, "quote")
    assert unlocks([row(p2pk(), 1)], outputs)


def test_codes() -> None:
    for inputs, error in (([proof(p2pk())], ProofLocked), ([proof(p2pk(["n_sigs", "0"]))], LockMalformed)):
        with pytest.raises(error) as caught:
            verify_witnesses(inputs, OUTPUTS, NOW)
        assert (caught.value.cashu, caught.value.status) == (10001, 400)
    assert (ProofLocked.code, LockMalformed.code) == ("proof-locked", "lock-malformed")


def test_what_is_hopeless_is_refused_before_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secp, "schnorr_verify", lambda *_: pytest.fail("a signature was verified"))
    for locked in (
        proof(p2pk()),
        proof(MULTI, signed(MULTI, 1)),
        proof(HASHED, signed(HASHED, 1)),
        proof(p2pk(["n_sigs", "0"]), witness(["00" * 64])),
        proof("ab" * 32, "x" * 1_024),
        proof(LOOSE, witness(["00" * 64])),
    ):
        unlocks([locked])


def test_what_is_left_to_prove_and_to_keep() -> None:
    mine, ordinary = row(p2pk(), 1), proof("ab" * 32, witness(["00"]))
    secret_hash = sha256(p2pk().encode()).digest()
    made = bytes.fromhex(signature(p2pk(), 1))
    claim = Claim(secret_hash, (made,), (Way((bytes.fromhex(key(1))[1:],), 1),))
    assert check_witnesses([ordinary, mine], OUTPUTS, NOW) == [UNLOCKED, (claim, mine.witness)]
    opened = proof(htlc(), witness(preimage=HELLO))
    assert check_witnesses([opened], OUTPUTS, NOW) == [(None, opened.witness)]


def test_under_sig_all_every_input_keeps_the_witness_that_unlocked_it() -> None:
    inputs = together(A_HASH_KEY, htlc(["sigflag", "SIG_ALL"], ["pubkeys", key(1)], nonce="m"), preimage=HELLO)
    found = check_witnesses([inputs[0], msgspec.structs.replace(inputs[1], witness="junk")], OUTPUTS, NOW)
    assert [each.witness for each in found] == [inputs[0].witness] * 2
    assert [each.claim is not None for each in found] == [True, False]


def test_a_request_has_so_many_signatures_to_try_and_no_more() -> None:
    lock = Lock("P2PK", key(1), tuple(key(number) for number in range(2, 5)))
    secret = lock_secret(lock, bytes(32))
    heavy = proof(secret, witness([f"{number:0128x}" for number in range(1, 8)]))
    most = MAX_CHECKS // (7 * 4)
    assert len(check_witnesses([heavy] * most, OUTPUTS, NOW)) == most
    with pytest.raises(TooManyInputs) as caught:
        check_witnesses([heavy] * (most + 1), OUTPUTS, NOW)
    assert caught.value.cashu == 11014
    assert len(check_witnesses([row(p2pk(), 1)] * 1_000, OUTPUTS, NOW)) == 1_000


WITNESSES: list[tuple[str, str | None, int, bool]] = [
    ("none", None, 0, False),
    ("empty", "", 0, False),
    ("no JSON", "signatures", 0, False),
    ("null", "null", 0, False),
    ("a number", "1", 0, False),
    ("deep", "[" * 1_000, 0, False),
    ("NaN", '{"signatures": NaN}', 0, False),
    ("half of a surrogate pair", '{"preimage": "' + HELLO + '", "x": "\\ud800"}', 0, False),
    ("half of a surrogate pair, raw", '{"x": "\ud800"}', 0, False),
    ("trailing text", witness(preimage=HELLO) + "x", 0, False),
    ("too long", witness(preimage=HELLO, x="x" * MAX_WITNESS), 0, False),
    ("too long in bytes", witness(preimage=HELLO) + "\u2028" * 400, 0, False),
    ("signatures null", '{"signatures": null}', 0, False),
    ("one signature three times", witness(["ab" * 64] * 3), 1, False),
    ("two signatures and a preimage", witness(["ab" * 64, "cd" * 64], preimage=HELLO), 2, True),
    ("seven signatures and a preimage", witness([f"{n:0128x}" for n in range(7)], preimage=HELLO), 7, True),
    ("unknown fields", witness(["ab" * 64], more=[{}]), 1, False),
]


@pytest.mark.parametrize(("text", "count", "opened"), [r[1:] for r in WITNESSES], ids=[r[0] for r in WITNESSES])
def test_a_witness_is_read(text: str | None, count: int, opened: bool) -> None:
    found = read_witness(text)
    assert (len(found.signatures), found.preimage is not None) == (count, opened)


@settings(max_examples=200)
@given(st.text(max_size=200) | st.text('{}[]",:0a', max_size=60).map(lambda text: '{"signatures":' + text))
def test_any_text_is_a_witness_of_something_or_nothing(text: str) -> None:
    found = read_witness(text)
    assert all(len(each) == 64 for each in found.signatures)
    assert unlocks([proof("ab" * 32, text)])
    assert not unlocks([proof(p2pk(), text)])


# A model: not a line of it knows the curve. Keys 1 to 4 may always sign, 3 to 6 refund; whoever signed is counted.


@st.composite
def cases(draw: st.DrawFn) -> tuple[Lock, set[int], str | None, bool]:
    """A lock, who signed, the preimage shown, and whether it must open."""
    kind = draw(st.sampled_from(["P2PK", "HTLC"]))
    keys = draw(st.lists(st.integers(1, 4), min_size=kind == "P2PK", max_size=4, unique=True))
    refund = draw(st.lists(st.integers(3, 6), max_size=3, unique=True))
    locktime = draw(st.sampled_from([NOW - 1, NOW, NOW + 1] if refund else [None, NOW - 1, NOW + 1]))
    n_sigs, n_refund = (draw(st.integers(1, max(1, len(each)))) for each in (keys, refund))
    written = tuple(draw(st.sampled_from([key(number), twin(number)])) for number in keys)
    data, pubkeys = (written[0], written[1:]) if kind == "P2PK" else (HASH, written)
    lock = Lock(
        kind,  # type: ignore[arg-type]
        data,
        pubkeys,
        n_sigs,
        locktime,
        tuple(key(number) for number in refund),
        n_refund,
        draw(st.booleans()),
    )
    signers = draw(st.sets(st.integers(1, 7), max_size=4))
    preimage = draw(st.sampled_from([None, HELLO, "00" * 32]))
    expired = locktime is not None and locktime < NOW
    main = len(signers & set(keys)) >= n_sigs if keys else True
    if kind == "HTLC":
        main = main and preimage == HELLO
    back = expired and (not refund or len(signers & set(refund)) >= n_refund)
    return lock, signers, preimage, main or back


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(1, 3), st.booleans())
def test_random_locks_as_the_model_says(case: tuple[Lock, set[int], str | None, bool], count: int, noise: bool) -> None:
    lock, signers, preimage, good = case
    more = {} if preimage is None else {"preimage": preimage}
    secrets = [lock_secret(lock, bytes([number])) for number in range(count)]
    if lock.sig_all:
        inputs = signed_together(secrets, OUTPUTS, *sorted(signers), **more)
    else:
        inputs = [proof(secret, signed(secret, *signers, **more)) for secret in secrets]
    if noise:
        inputs = [
            msgspec.structs.replace(each, witness=json.dumps(noisy(each.witness))) if each.witness else each
            for each in inputs
        ]
    assert unlocks(inputs, OUTPUTS) is good


def noisy(text: str) -> Any:
    """The same witness with a signature of a stranger before the others, and the last of them twice."""
    value = json.loads(text)
    value["signatures"] = [signature("x", 9), *value["signatures"], *value["signatures"][-1:]]
    return value


# What a wallet does.


def test_a_wallet_signs_what_is_locked_to_its_key() -> None:
    mine, both, other = p2pk(), MULTI, p2pk(data=9)
    inputs = [proof("ab" * 32), proof(mine), proof(both), proof(other), proof(A)]
    made = sign_inputs(inputs, secret_key(1), AUX)
    assert made[0] == inputs[0]
    assert made[3:] == inputs[3:]
    assert unlocks([made[1]])
    assert not unlocks([made[2]])
    [both_signed] = sign_inputs([made[2]], secret_key(3), AUX)
    assert unlocks([both_signed])
    assert sign_inputs([both_signed], secret_key(1), bytes([1]) * 32) == [both_signed]


def test_a_wallet_signs_a_whole_swap() -> None:
    inputs = [proof(A2), proof(A2.replace('"n"', '"m"'))]
    assert is_sig_all([proof("ab" * 32), *inputs])
    assert not is_sig_all([proof("ab" * 32), proof(p2pk())])
    half = sign_all(inputs, OUTPUTS, secret_key(1), AUX)
    assert not unlocks(half, OUTPUTS)
    whole = sign_all(half, OUTPUTS, secret_key(2), AUX)
    assert unlocks(whole, OUTPUTS)
    assert whole[1] == inputs[1]
    assert sign_all(whole, OUTPUTS, secret_key(2), AUX) == whole
    assert unlocks(sign_all([proof(A)], OUTPUTS, secret_key(1), AUX, "quote"), OUTPUTS, "quote")


@pytest.mark.parametrize(
    ("inputs", "signer", "error"),
    [
        ([proof(A)], 2, InvalidKey),
        ([proof(A), proof("ab" * 32)], 1, ProofLocked),
        ([proof(A), proof(A2)], 1, ProofLocked),
        ([proof(p2pk())], 1, ProofLocked),
        ([proof("ab" * 32)], 1, ProofLocked),
        ([], 1, ProofLocked),
        ([proof(p2pk(["n_sigs", "0"]))], 1, LockMalformed),
    ],
)
def test_a_swap_that_cannot_be_signed(inputs: list[Proof], signer: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        sign_all(inputs, OUTPUTS, secret_key(signer), AUX)


def test_a_wallet_shows_a_preimage() -> None:
    other = htlc(data="00" * 32)
    given = [proof(htlc()), proof(htlc(data=HASH.upper())), proof(other), proof(p2pk()), proof("ab" * 32)]
    shown = with_preimage(given, PREIMAGE)
    assert shown[2:] == given[2:]
    assert [unlocks([each]) for each in shown] == [True, True, False, False, True]
    [keyed] = sign_inputs(with_preimage([proof(HASHED)], PREIMAGE), secret_key(2), AUX)
    assert unlocks([keyed])
    [again] = with_preimage(sign_inputs([proof(HASHED)], secret_key(2), AUX), PREIMAGE)
    assert again == keyed


def test_the_largest_witness_of_a_lock_that_can_be_made_is_not_too_long() -> None:
    lock = Lock("HTLC", HASH, tuple(key(number) for number in range(1, 9)), 7)
    inputs = with_preimage([proof(lock_secret(lock, bytes(32)))], PREIMAGE)
    for number in range(1, 8):
        assert not unlocks(inputs)
        inputs = sign_inputs(inputs, secret_key(number), AUX)
    assert unlocks(inputs)
    assert inputs[0].witness is not None and len(inputs[0].witness) <= MAX_WITNESS


@pytest.mark.parametrize("flip", [lambda text: text.swapcase(), lambda text: text.replace("n", "N"), lambda t: t + " "])
def test_a_signature_is_over_the_secret_as_it_is_written(flip: Callable[[str], str]) -> None:
    secret = p2pk()
    written = witness([signature(flip(secret), 1)])
    assert not unlocks([proof(secret, written)])


def test_a_claim_counts_keys() -> None:
    message = sha256(b"m").digest()
    keys = tuple(secp.xonly(secret_key(number)) for number in (1, 2, 3))
    by = {number: bytes.fromhex(signature("m", number)) for number in range(1, 5)}
    again = bytes.fromhex(signature("m", 1, bytes([7]) * 32))
    for signatures, needed, good in (
        ((), 1, False),
        ((by[4],), 1, False),
        ((by[1],), 1, True),
        ((by[1], again), 2, False),
        ((by[1], again, by[3]), 2, True),
        ((by[4], by[2], by[1], by[3]), 3, True),
    ):
        assert proved(Claim(message, signatures, (Way(keys, needed),))) is good
