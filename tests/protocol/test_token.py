from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import PennypostError, StampMalformed, StampUnknownKeyset
from pennypost.protocol.token import (
    Dleq,
    Proof,
    Token,
    encode_token,
    normal_mint,
    parse_token,
    resolve_token,
)
from tests.protocol.vectors import load

NUT00 = load("nut00.json")
ID, TWIN, OTHER = "01" + "a" * 64, "01" + "a" * 14 + "b" * 50, "01" + "c" * 64
OLD = "00ad268c4d1f5826"
POINT = "02" + "ab" * 32
DLEQ = Dleq("1" * 64, "2" * 64, "3" * 64)
MINT = "https://stamps.example.org"
SECRET = "shibboleth"


def cashu_b(value: object) -> str:
    return "cashuB" + urlsafe_b64encode(value if isinstance(value, bytes) else cbor2.dumps(value)).decode().rstrip("=")


def cashu_a(value: object) -> str:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return "cashuA" + urlsafe_b64encode(body).decode().rstrip("=")


def proof_b(**changes: object) -> dict[str, object]:
    return {"a": 1, "s": SECRET, "c": bytes.fromhex(POINT)} | changes


def token_b(*proofs: object, keyset: object = bytes.fromhex(ID), **changes: object) -> dict[str, object]:
    return {"t": [{"i": keyset, "p": list(proofs or [proof_b()])}], "m": MINT, "u": "sat"} | changes


def proof_a(**changes: object) -> dict[str, object]:
    return {"amount": 1, "id": ID, "secret": SECRET, "C": POINT} | changes


def token_a(*proofs: object, **changes: object) -> dict[str, object]:
    return {"token": [{"mint": MINT, "proofs": list(proofs or [proof_a()])}], "unit": "sat"} | changes


def without(value: dict[str, object], name: str) -> dict[str, object]:
    return {key: each for key, each in value.items() if key != name}


def refused(text: object, known_ids: list[str] | None = None, **options: Any) -> type[PennypostError]:
    with pytest.raises(PennypostError) as caught:
        parse_token(text, known_ids or [ID, OLD, OTHER], **options)
    # Nothing of what was sent is repeated.
    assert SECRET not in str(caught.value)
    return type(caught.value)


# The published vectors


@pytest.mark.parametrize("vector", NUT00["v4"], ids=["one keyset", "two keysets"])
def test_cashu_b_vectors(vector: dict[str, Any]) -> None:
    shape, text = vector["json"], vector["token"]
    token = parse_token(text)
    assert (token.mint, token.unit, token.memo) == (shape["m"], shape["u"], shape.get("d"))
    assert token.proofs == [
        Proof(proof["a"], group["i"], proof["s"], proof["c"]) for group in shape["t"] for proof in group["p"]
    ]
    assert encode_token(token) == text.rstrip("=")
    assert token.amount == sum(proof["a"] for group in shape["t"] for proof in group["p"])


def test_cashu_a_vectors() -> None:
    vector = NUT00["v3"]
    token = parse_token(vector["token"])
    (entry,) = vector["json"]["token"]
    assert (token.mint, token.unit, token.memo) == (entry["mint"], "sat", "Thank you.")
    assert [msgspec.to_builtins(proof) for proof in token.proofs] == entry["proofs"]
    assert parse_token(encode_token(token, "A")) == token
    assert parse_token(encode_token(token, "B")) == token
    first, padded, bare = map(parse_token, NUT00["v3_correct"])
    assert first == token
    assert padded == bare
    assert bare.memo == "Thank you very much."


def test_cashu_a_vectors_to_be_refused() -> None:
    for text in NUT00["v3_incorrect"]:
        assert refused(text) is StampMalformed


def test_the_binary_vector_is_the_first_one() -> None:
    binary = bytes.fromhex(NUT00["v4_binary"])
    assert binary[:5] == b"crawB"
    assert parse_token(cashu_b(binary[5:])) == parse_token(NUT00["v4"][0]["token"])


# Round trips

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
points = st.binary(min_size=32, max_size=32).flatmap(lambda x: st.sampled_from(["02" + x.hex(), "03" + x.hex()]))
scalars = st.binary(min_size=32, max_size=32).map(bytes.hex)
ids = st.one_of(scalars.map(lambda x: "01" + x), st.binary(min_size=7, max_size=7).map(lambda x: "00" + x.hex()))
proofs = st.builds(
    Proof,
    st.integers(0, 63).map(lambda power: 1 << power),
    ids,
    texts,
    points,
    st.none() | texts,
    st.none() | st.builds(Dleq, scalars, scalars, st.none() | scalars),
)
tokens = st.builds(
    Token,
    st.just(MINT) | texts,
    st.just("sat") | texts.filter(lambda unit: len(unit.encode()) <= 32),
    st.lists(proofs, min_size=1, max_size=4, unique_by=lambda proof: proof.secret),
    st.none() | texts,
)


def by_keyset(token: Token) -> Token:
    """The proofs in the order of a cashuB token, which groups them."""
    order = {id: place for place, id in reversed(list(enumerate(proof.id for proof in token.proofs)))}
    return msgspec.structs.replace(token, proofs=sorted(token.proofs, key=lambda proof: order[proof.id]))


@settings(max_examples=100)
@given(tokens)
def test_round_trips(token: Token) -> None:
    known = {proof.id for proof in token.proofs}
    assert parse_token(encode_token(token, "A", keep_dleq=True), known, keep_dleq=True) == token
    full = encode_token(token, short_ids=False, keep_dleq=True)
    assert parse_token(full, known, keep_dleq=True) == by_keyset(token)
    stripped = [msgspec.structs.replace(proof, dleq=None) for proof in by_keyset(token).proofs]
    for text in (encode_token(token), encode_token(token, short_ids=False), full):
        assert parse_token(text, known).proofs == stripped
        assert parse_token("cashu:" + text + "==", known).proofs == stripped


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    for text in (cashu_a(data), cashu_b(data)):
        with suppress(StampMalformed, StampUnknownKeyset):
            parse_token(text, [ID])


SOUND = cbor2.dumps(token_b(proof_b(d={"e": bytes(32), "s": bytes(32), "r": bytes(32)}, x=[1, {"y": None}])))


@settings(max_examples=200)
@given(st.integers(0, len(SOUND) - 1), st.integers(0, 255))
def test_one_changed_byte_is_read_or_refused(place: int, value: int) -> None:
    changed = SOUND[:place] + bytes((value,)) + SOUND[place + 1 :]
    with suppress(StampMalformed, StampUnknownKeyset):
        parse_token(cashu_b(changed), [ID], keep_dleq=True)


@pytest.mark.parametrize("length", range(len(SOUND)))
def test_every_cut_is_refused(length: int) -> None:
    assert refused(cashu_b(SOUND[:length])) is StampMalformed


# What must be read though it is unusual

WELCOME: dict[str, Callable[[], str]] = {
    "as usual": lambda: cashu_b(token_b()),
    "short id": lambda: cashu_b(token_b(keyset=bytes.fromhex(ID[:16]))),
    "with the scheme": lambda: "cashu:" + cashu_b(token_b()),
    "the alphabet of RFC 4648, section 4": lambda: cashu_b(token_b(proof_b(x="~~~???"))).translate({45: 43, 95: 47}),
    "unknown fields": lambda: cashu_b(
        token_b(
            proof_b(x=[1, -1, 1.5, True, None, b"x", {"y": [1] * 20}], longer=1),
            z={"q": "q"},
        )
    ),
    "null where nothing is": lambda: cashu_b(token_b(proof_b(w=None, d=None), d=None)),
    "numbers longer than needed": lambda: cashu_b(
        cbor2.dumps(token_b()).replace(b"\x61\x61\x01", b"\x61\x61\x1a\0\0\0\1")
    ),
    "keyset after its proofs": lambda: cashu_b(token_b(t=[{"p": [proof_b()], "i": bytes.fromhex(ID)}])),
    "cashuA": lambda: cashu_a(token_a()),
    "cashuA without unit": lambda: cashu_a(without(token_a(), "unit")),
    "cashuA, unit null": lambda: cashu_a(token_a(unit=None, memo=None)),
    "cashuA, short id": lambda: cashu_a(token_a(proof_a(id=ID[:16]))),
    "cashuA, unknown fields": lambda: cashu_a(token_a(proof_a(x=[[[1]]], witness=None, dleq=7), y=1.5)),
    "cashuA, one mint in two entries": lambda: cashu_a(
        {"token": [{"mint": MINT, "proofs": []}, {"mint": MINT, "proofs": [proof_a()]}], "unit": "sat"}
    ),
}


@pytest.mark.parametrize("name", WELCOME)
def test_unusual_tokens(name: str) -> None:
    assert parse_token(WELCOME[name](), [ID, OTHER]) == Token(MINT, "sat", [Proof(1, ID, SECRET, POINT)])


def test_a_witness_is_kept_and_a_condition_is_no_obstacle() -> None:
    secret = json.dumps(["P2PK", {"nonce": "n", "data": POINT}])
    for text in (cashu_b(token_b(proof_b(s=secret, w="{}"))), cashu_a(token_a(proof_a(secret=secret, witness="{}")))):
        (proof,) = parse_token(text, [ID]).proofs
        assert (proof.secret, proof.witness) == (secret, "{}")


def test_the_limits_themselves_are_allowed() -> None:
    for secret in ("x" * 1024, "é" * 512):
        for text in (cashu_b(token_b(proof_b(s=secret, a=1 << 63))), cashu_a(token_a(proof_a(secret=secret)))):
            assert parse_token(text, [ID]).proofs[0].secret == secret
    many = [proof_b(s=str(number)) for number in range(256)]
    assert len(parse_token(cashu_b(token_b(*many)), [ID]).proofs) == 256
    assert len(parse_token(cashu_b(token_b(*many[:9])), [ID], max_proofs=9).proofs) == 9
    assert refused(cashu_b(token_b(*many[:9])), max_proofs=8) is StampMalformed


# Attacks: one row each

INDEFINITE = b"\xbf" + cbor2.dumps(token_b())[1:] + b"\xff"
LYING = cbor2.dumps(token_b())
MALFORMED: dict[str, object] = {
    "null": None,
    "number": 1,
    "boolean": True,
    "float": 1.5,
    "list": ["cashuB"],
    "object": {"token": "cashuB"},
    "bytes": cashu_b(token_b()).encode(),
    "empty": "",
    "only a prefix": "cashuB",
    "only a prefix, A": "cashuA",
    "no prefix": cashu_b(token_b())[6:],
    "another version": "cashuC" + cashu_b(token_b())[6:],
    "prefix in upper case": "CASHUB" + cashu_b(token_b())[6:],
    "prefix twice": "cashu:cashu:" + cashu_b(token_b()),
    "space before": " " + cashu_b(token_b()),
    "1 MiB": "cashuB" + "A" * (1 << 20),
    "bad base64": "cashuB!!!!",
    "base64 of impossible length": "cashuBAAAAA",
    "base64 with a line feed": cashu_b(token_b()) + "\n",
    "base64 with padding inside": "cashuBo2F0==gqJh",
    "not ASCII": "cashuBÄÖÜ",
    "lone surrogate": "cashuB\ud800",
    "NUL": "cashuB\0",
    # CBOR
    "bad CBOR": cashu_b(b"\xff\xff"),
    "a list": cashu_b([]),
    "a text": cashu_b("x"),
    "empty map": cashu_b({}),
    "something after its end": cashu_b(cbor2.dumps(token_b()) + b"\x00"),
    "deep in an unknown field": cashu_b(b"\xa4" + LYING[1:] + b"\x61x" + b"\x81" * 5000 + b"\x00"),
    "deep at once": cashu_b(b"\x81" * 100_000),
    "deep maps": cashu_b(b"\xa1\x61x" * 20_000),
    "wide in an unknown field": cashu_b(b"\xa4" + LYING[1:] + b"\x61x\x99\xff\xff" + b"\x00" * 0xFFFF),
    "a lying count of an unknown list": cashu_b(b"\xa4" + LYING[1:] + b"\x61x\x9b" + b"\xff" * 8),
    "a lying count of an unknown map": cashu_b(b"\xa4" + LYING[1:] + b"\x61x\xbb" + b"\xff" * 8),
    "a lying length of a text": cashu_b(LYING.replace(b"\x61u\x63sat", b"\x61u\x7b" + b"\xff" * 8)),
    "a lying length past the end": cashu_b(LYING[:-4] + b"\x78\x20sat"),
    "a lying count of fields": cashu_b(b"\xbb" + b"\xff" * 8 + LYING[1:]),
    "a lying count of proofs": cashu_b(LYING.replace(b"\x61p\x81", b"\x61p\x9b" + b"\xff" * 8)),
    "a lying count of groups": cashu_b(LYING.replace(b"\x61t\x81", b"\x61t\x9b" + b"\xff" * 8)),
    "indefinite map": cashu_b(INDEFINITE),
    "indefinite text": cashu_b(LYING.replace(b"\x61u\x63sat", b"\x61u\x7f\x63sat\xff")),
    "indefinite list in an unknown field": cashu_b(b"\xa4" + LYING[1:] + b"\x61x\x9f\xff"),
    "reserved length": cashu_b(LYING.replace(b"\x61u\x63sat", b"\x61u\x7csat")),
    "a tag in an unknown field": cashu_b(token_b(x=cbor2.CBORTag(30, [1, 2]))),
    "a decimal of 10^1e9": cashu_b(token_b(proof_b(a=cbor2.CBORTag(4, [1_000_000_000, 1])))),
    "a regular expression": cashu_b(token_b(x=cbor2.CBORTag(35, "(a+)+"))),
    "a shared reference": cashu_b(token_b(x=cbor2.CBORTag(29, 0))),
    "the whole tagged": cashu_b(cbor2.CBORTag(55799, token_b())),
    "a bignum amount": cashu_b(token_b(proof_b(a=1 << 64))),
    "a bignum that is small": cashu_b(token_b(proof_b(a=cbor2.CBORTag(2, b"\x01")))),
    "a negative bignum": cashu_b(token_b(proof_b(a=-(1 << 65)))),
    "a simple value that is none": cashu_b(LYING.replace(b"\x61u\x63sat", b"\x61x\xe0")),
    "a field twice": cashu_b(b"\xa4" + LYING[1:] + b"\x61u\x63sat"),
    "an amount twice": cashu_b(LYING.replace(b"\xa3\x61a\x01", b"\xa4\x61a\x01\x61a\x02")),
    "a number as key": cashu_b(token_b() | {1: 2}),  # type: ignore[operator]
    "a very long key": cashu_b(token_b(**{"x" * 65: 1})),
    "amount 0": cashu_b(token_b(proof_b(a=0))),
    "amount -1": cashu_b(token_b(proof_b(a=-1))),
    "amount 3": cashu_b(token_b(proof_b(a=3))),
    "amount 2^64 - 1": cashu_b(token_b(proof_b(a=(1 << 64) - 1))),
    "amount 1.0": cashu_b(token_b(proof_b(a=1.0))),
    "amount true": cashu_b(token_b(proof_b(a=True))),
    'amount "1"': cashu_b(token_b(proof_b(a="1"))),
    "amount null": cashu_b(token_b(proof_b(a=None))),
    "no amount": cashu_b(token_b(without(proof_b(), "a"))),
    "no secret": cashu_b(token_b(without(proof_b(), "s"))),
    "no signature": cashu_b(token_b(without(proof_b(), "c"))),
    "no proofs": cashu_b(token_b(t=[])),
    "no list of proofs": cashu_b(without(token_b(), "t")),
    "a group without proofs": cashu_b(token_b(t=[{"i": bytes.fromhex(ID), "p": []}])),
    "a group without keyset": cashu_b(token_b(t=[{"p": [proof_b()]}])),
    "a group that is a proof": cashu_b(token_b(t=[proof_b()])),
    "no mint": cashu_b(without(token_b(), "m")),
    "an empty mint": cashu_b(token_b(m="")),
    "no unit": cashu_b(without(token_b(), "u")),
    "a mint of 513 bytes": cashu_b(token_b(m="https://" + "x" * 505)),
    "a unit of 33 bytes": cashu_b(token_b(u="x" * 33)),
    "a long memo": cashu_b(token_b(d="x" * 4097)),
    "a long witness": cashu_b(token_b(proof_b(w="x" * 4097))),
    "257 proofs": cashu_b(token_b(*(proof_b(s=str(number)) for number in range(257)))),
    "10,000 proofs": cashu_b(token_b(*(proof_b(s=str(number)) for number in range(10_000))))[:262_000],
    "257 proofs in groups": cashu_b(
        token_b(t=[{"i": bytes.fromhex(ID), "p": [proof_b(s=str(number))]} for number in range(257)])
    ),
    "a proof twice": cashu_b(token_b(proof_b(), proof_b())),
    "a secret twice, other signature": cashu_b(token_b(proof_b(), proof_b(c=bytes.fromhex("03" + "ab" * 32)))),
    "a secret twice, other keyset": cashu_b(
        token_b(t=[{"i": bytes.fromhex(id), "p": [proof_b()]} for id in (ID, OTHER)])
    ),
    "secret of 1,025 bytes": cashu_b(token_b(proof_b(s="x" * 1025))),
    "secret of 513 signs of two bytes": cashu_b(token_b(proof_b(s="é" * 513))),
    "secret empty": cashu_b(token_b(proof_b(s=""))),
    "secret with NUL": cashu_b(token_b(proof_b(s="a\0b"))),
    "secret as bytes": cashu_b(token_b(proof_b(s=b"secret"))),
    "secret not UTF-8": cashu_b(LYING.replace(b"\x6ashibboleth", b"\x6ashibbolet\xff")),
    "secret with half a surrogate pair": cashu_b(LYING.replace(b"\x6ashibboleth", b"\x6ashibbol\xed\xa0\x80")),
    "C uncompressed": cashu_b(token_b(proof_b(c=b"\x04" + bytes(64)))),
    "C hybrid": cashu_b(token_b(proof_b(c=b"\x06" + bytes(32)))),
    "C too short": cashu_b(token_b(proof_b(c=bytes.fromhex(POINT)[:32]))),
    "C as hex": cashu_b(token_b(proof_b(c=POINT))),
    "keyset id as hex": cashu_b(token_b(keyset=ID)),
    # JSON
    "bad JSON": cashu_a(b"{"),
    "A: a list": cashu_a([]),
    "A: null": cashu_a(None),
    "A: deep": cashu_a(b"[" * 100_000),
    "A: NaN": cashu_a(b'{"token":NaN}'),
    "A: 1e999": cashu_a(json.dumps(token_a()).replace("1,", "1e999,", 1).encode()),
    "A: 5,000 digits": cashu_a(json.dumps(token_a()).replace("1,", "1" * 5000 + ",", 1).encode()),
    "A: BOM": cashu_a(b"\xef\xbb\xbf" + json.dumps(token_a()).encode()),
    "A: not UTF-8": cashu_a(b'{"token":"\xff"}'),
    "A: lone surrogate": cashu_a(token_a(proof_a(secret="\ud800"))),
    "A: something after its end": cashu_a(json.dumps(token_a()).encode() + b"x"),
    "A: no entries": cashu_a(token_a(token=[])),
    "A: 257 entries": cashu_a(token_a(token=[{"mint": MINT, "proofs": [proof_a()]}] * 257)),
    "A: entries no list": cashu_a(token_a(token={})),
    "A: entry no object": cashu_a(token_a(token=[1])),
    "A: proofs no list": cashu_a(token_a(token=[{"mint": MINT, "proofs": {}}])),
    "A: proof no object": cashu_a(token_a(None)),
    "A: no proofs": cashu_a(token_a(token=[{"mint": MINT, "proofs": []}])),
    "A: no mint": cashu_a(token_a(token=[{"proofs": [proof_a()]}])),
    "A: two mints": cashu_a(
        token_a(token=[{"mint": mint, "proofs": [proof_a(secret=mint)]} for mint in (MINT, "https://other.example")])
    ),
    "A: unit of another type": cashu_a(token_a(unit=1)),
    "A: long memo": cashu_a(token_a(memo="x" * 4097)),
    **{
        f"A: amount {amount!r}": cashu_a(token_a(proof_a(amount=amount)))
        for amount in (0, -1, 3, 1 << 64, 1 << 70, 1.0, True, "1", None, [1], {})
    },
    **{
        f"A: C {C!r}"[:40]: cashu_a(token_a(proof_a(C=C)))
        for C in (
            None,
            1,
            "",
            POINT.upper(),
            "04" + "ab" * 64,
            "04" + "ab" * 32,
            POINT + "\n",
            POINT[:64],
            "02" + "٠" * 64,
        )
    },
    **{
        f"A: secret {secret!r}"[:40]: cashu_a(token_a(proof_a(secret=secret)))
        for secret in (None, 1, "", ["x"], "x" * 1025, "é" * 513, "a\0b")
    },
    "A: keyset id of another type": cashu_a(token_a(proof_a(id=1))),
    "A: long witness": cashu_a(token_a(proof_a(witness="x" * 4097))),
    "A: witness of another type": cashu_a(token_a(proof_a(witness={}))),
    "A: 257 proofs": cashu_a(token_a(*(proof_a(secret=str(number)) for number in range(257)))),
    "A: a proof twice": cashu_a(token_a(proof_a(), proof_a())),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    assert refused(MALFORMED[name]) is StampMalformed


UNKNOWN: dict[str, tuple[str, list[str]]] = {
    "unknown keyset": (cashu_b(token_b()), [OTHER]),
    "unknown short id": (cashu_b(token_b(keyset=bytes.fromhex(ID[:16]))), [OTHER]),
    "ambiguous short id": (cashu_b(token_b(keyset=bytes.fromhex(ID[:16]))), [ID, TWIN]),
    "nothing known": (cashu_b(token_b()), ["00" + "0" * 14]),
    "id of 7 bytes": (cashu_b(token_b(keyset=bytes.fromhex(ID[:14]))), [ID]),
    "id of 9 bytes": (cashu_b(token_b(keyset=bytes.fromhex(ID[:18]))), [ID]),
    "empty id": (cashu_b(token_b(keyset=b"")), [ID]),
    "A: upper case": (cashu_a(token_a(proof_a(id=ID.upper()))), [ID]),
    "A: a path": (cashu_a(token_a(proof_a(id="../../etc/passwd"))), [ID]),
    "A: the older form in base64": (cashu_a(token_a(proof_a(id="I2yN+iRYfkzT"))), [ID]),
    "A: unknown keyset": (cashu_a(token_a()), [OTHER]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_keysets(name: str) -> None:
    text, known = UNKNOWN[name]
    assert refused(text, known) is StampUnknownKeyset


def test_ids_may_be_resolved_later() -> None:
    token = parse_token(cashu_b(token_b(keyset=bytes.fromhex(ID[:16]))))
    assert token.proofs[0].id == ID[:16]
    assert resolve_token(token, [ID, OTHER]).proofs[0].id == ID
    assert resolve_token(resolve_token(token, [ID]), iter([ID])).proofs[0].id == ID
    with pytest.raises(StampUnknownKeyset):
        resolve_token(token, [ID, TWIN])
    assert refused_unresolved(cashu_b(token_b(keyset=b"\x01" * 9))) is StampMalformed


def refused_unresolved(text: str) -> type[PennypostError]:
    with pytest.raises(PennypostError) as caught:
        parse_token(text)
    return type(caught.value)


def test_the_older_form_names_keysets_in_full() -> None:
    """Its readers know no short ids of version 01; those of version 00 are whole."""
    short = parse_token(encode_token(Token(MINT, "sat", [Proof(1, "01" + "ab" * 32, SECRET, POINT)])))
    assert len(short.proofs[0].id) == 16
    with pytest.raises(StampMalformed):
        encode_token(short, "A")
    for whole in ("01" + "ab" * 32, "00" + "ab" * 7):
        token = Token(MINT, "sat", [Proof(1, whole, SECRET, POINT)])
        assert parse_token(encode_token(token, "A")) == token


def test_dleq_is_dropped_unread_unless_asked_for() -> None:
    bad: list[object] = [{"e": b"x"}, {"e": b"x" * 32}, {"r": bytes(31)}, 7, "x", [], {"e": 1, "s": 2}]
    for dleq in bad:
        text = cashu_b(token_b(proof_b(d=dleq)))
        assert parse_token(text, [ID]).proofs[0].dleq is None
        assert refused(text, keep_dleq=True) is StampMalformed
        text = cashu_a(token_a(proof_a(dleq=dleq if not isinstance(dleq, dict) else {"e": "x"})))
        assert parse_token(text, [ID]).proofs[0].dleq is None
        assert refused(text, keep_dleq=True) is StampMalformed
    token = Token(MINT, "sat", [Proof(1, ID, SECRET, POINT, None, DLEQ)])
    for version in ("A", "B"):
        for text in (encode_token(token, version), encode_token(token, version, keep_dleq=True)):
            assert parse_token(text, [ID]).proofs[0].dleq is None
        assert parse_token(encode_token(token, version), [ID], keep_dleq=True).proofs[0].dleq is None
        assert parse_token(encode_token(token, version, keep_dleq=True), [ID], keep_dleq=True) == token


def test_a_proof_in_a_log_shows_no_secret() -> None:
    proof = Proof(1, ID, SECRET, POINT)
    assert SECRET not in repr(proof)
    assert POINT not in repr(Token(MINT, "sat", [proof]))


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("https://mint.example", "https://mint.example"),
        ("https://mint.example/", "https://mint.example"),
        ("https://mint.example//", "https://mint.example"),
        ("HTTPS://Mint.Example", "https://mint.example"),
        ("https://mint.example:443/", "https://mint.example"),
        ("http://mint.example:80", "http://mint.example"),
        ("http://mint.example:3338/", "http://mint.example:3338"),
        ("https://mint.example./", "https://mint.example"),
        ("https://mint.example/Bitcoin/", "https://mint.example/Bitcoin"),
        ("https://mint.example:", "https://mint.example"),
        ("http://[::1]:3338/", "http://[::1]:3338"),
        ("http://127.0.0.1:3338", "http://127.0.0.1:3338"),
    ],
)
def test_addresses_of_mints(address: str, normal: str) -> None:
    assert normal_mint(address) == normal
    assert normal_mint(normal) == normal


@pytest.mark.parametrize(
    "address",
    [
        "",
        "mint.example",
        "//mint.example",
        "ftp://mint.example",
        "https://",
        "https:///path",
        "https://user@mint.example",
        "https://mint.example@evil.example",
        "https://mint.example?x",
        "https://mint.example#x",
        "https://mint.example\\@evil.example",
        "https://mint.example/ x",
        " https://mint.example",
        "https://mint.example\n",
        "https://mint.example:99999",
        "https://mint.example:x",
        "https://mint.example:٨٠",
        "https://[::1",
        "https://bücher.example",
        "https://" + "x" * 600,
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(StampMalformed):
        normal_mint(address)
