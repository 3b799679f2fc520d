"""Nostr Wallet Connect: the NIP's own example, a wallet's side written here, and what a hostile relay could send."""

from __future__ import annotations

import json

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import nip04, nip44, secp
from pennypost.protocol.errors import InvalidInput, InvalidPayload, InvalidSignature, InvalidWalletLink
from pennypost.protocol.event import Event, sign_event, verify_event
from pennypost.protocol.filter import matches
from pennypost.protocol.nip47 import (
    MAKE_INVOICE,
    MAX_RELAYS,
    Encryption,
    Progress,
    WalletLink,
    WalletResponse,
    WalletSession,
    encode_link,
    parse_link,
)

WALLET, APP, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
LINK = WalletLink(secp.xonly(WALLET), APP, ("wss://relay.example", "ws://127.0.0.1:7000/path"), "bob@example.org")
SESSION = WalletSession(LINK)
NONCE, AUX = bytes(range(32)), bytes(32)
HASH = "31afdf1".rjust(64, "0")

# NIP-47, Nostr Wallet Connect URI, Example connection string.
EXAMPLE = (
    "nostr+walletconnect://b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4"
    "?relay=wss%3A%2F%2Frelay.damus.io&secret=71a8c14c1407c113601079c4302dab36460f0ccd0ad506f1f2dc73b5100e4f3c"
)
# NIP-47, Example NIP-47 info event: its tags and content. Its id is that of an older text of the example.
INFO_TAGS = [["encryption", "nip44_v2 nip04"], ["notifications", "payment_received payment_sent"]]
INFO = (
    "pay_invoice pay_keysend get_balance get_info make_invoice lookup_invoice list_transactions "
    "multi_pay_invoice multi_pay_keysend sign_message notifications"
)


def test_the_published_connection_string() -> None:
    link = parse_link(EXAMPLE)
    assert link.wallet.hex().startswith("b889ff5b") and link.secret.hex().startswith("71a8c14c")
    assert (link.relays, link.lud16) == (("wss://relay.damus.io",), None)
    assert encode_link(link) == EXAMPLE
    theirs = nostr_sdk.NostrWalletConnectUri.parse(encode_link(LINK))
    assert theirs.secret().to_hex() == APP.hex()
    assert theirs.lud16() == LINK.lud16


def test_a_link_is_read_again_and_keeps_its_secret() -> None:
    assert parse_link(encode_link(LINK)) == LINK
    assert APP.hex() not in repr(LINK) and str(APP) not in repr(LINK)
    once = EXAMPLE.replace("nostr+walletconnect://", "nostrwalletconnect:")
    assert parse_link(f"  {once}\n") == parse_link(EXAMPLE)


KEY, SECRET = LINK.wallet.hex(), APP.hex()
BAD_LINKS = [
    ("", "nothing"),
    ("https://example.org", "a web address"),
    (f"nostr+walletconnect://{KEY}", "no parameters"),
    (f"nostr+walletconnect://{KEY}?relay=wss://r", "no secret"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}", "no relay"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=https://r", "a relay that is none"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=wss://u:p@r", "a relay with a password"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=wss://r:x", "a relay with a bad port"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=wss://", "a relay without a host"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=wss://r&secret={SECRET}", "two secrets"),
    (f"nostr+walletconnect://{KEY}?secret={'0' * 64}&relay=wss://r", "a secret that is no key"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET.upper()}&relay=wss://r".replace("02", "0A"), "upper case"),
    (f"nostr+walletconnect://{KEY[:-2]}?secret={SECRET}&relay=wss://r", "a short key"),
    (f"nostr+walletconnect://{'f' * 64}?secret={SECRET}&relay=wss://r", "a key not on the curve"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&" + "&".join(f"relay=wss://r{n}" for n in range(9)), "9 relays"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=wss://r&" + "&".join(["a=b"] * 40), "40 parameters"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=wss://r{'x' * 5_000}", "too long"),
    (f"nostr+walletconnect://{KEY}?secret={SECRET}&relay=wss://ü", "no ASCII"),
]


@pytest.mark.parametrize("text", [row[0] for row in BAD_LINKS], ids=[row[1] for row in BAD_LINKS])
def test_bad_links_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidWalletLink) as refused:
        parse_link(text)
    assert SECRET not in str(refused.value) and KEY not in str(refused.value)


@settings(max_examples=200)
@given(st.text(max_size=100).map(lambda text: f"nostr+walletconnect:{text}"))
def test_any_other_text_is_refused_by_its_own_error(text: str) -> None:
    with pytest.raises(InvalidWalletLink):
        parse_link(text)


def test_many_relays_and_the_same_twice() -> None:
    relays = tuple(f"wss://r{number}" for number in range(MAX_RELAYS))
    assert parse_link(encode_link(WalletLink(LINK.wallet, APP, relays + relays))).relays == relays


def encrypted(text: str, encryption: Encryption, author: bytes = WALLET, reader: bytes = APP) -> str:
    if encryption is Encryption.NIP04:
        return nip04.encrypt(text, secp.ecdh_x(author, secp.xonly(reader)), NONCE[:16])
    return nip44.encrypt(text, nip44.conversation_key(author, secp.xonly(reader)), NONCE)


def written(
    kind: int,
    value: object,
    *,
    author: bytes = WALLET,
    encryption: Encryption = Encryption.NIP44,
    to: str = SESSION.public_key,
    about: str | None = "a" * 64,
) -> Event:
    """An event of the wallet's (or of somebody who plays it)."""
    content = encrypted(value if isinstance(value, str) else json.dumps(value), encryption, author)
    tags = [["p", to], *([["e", about]] if about else [])]
    return sign_event(author, created_at=1_700_000_000, kind=kind, tags=tags, content=content, aux=AUX)


@pytest.mark.parametrize("encryption", Encryption)
def test_a_request_as_the_wallet_reads_it(encryption: Encryption) -> None:
    params = {"amount": 1_000, "description": "Grüße", "expiry": 60}
    event = SESSION.request(
        MAKE_INVOICE, params, encryption, created_at=1_700_000_000, expires_at=1_700_000_060, nonce=NONCE, aux=AUX
    )
    verify_event(event)
    assert (event.kind, event.pubkey) == (23194, SESSION.public_key)
    assert event.tags == [["p", KEY], ["encryption", encryption.value], ["expiration", "1700000060"]]
    shared = secp.ecdh_x(WALLET, secp.xonly(APP))
    key = nip44.conversation_key(WALLET, secp.xonly(APP))
    text = nip04.decrypt(event.content, shared) if encryption is Encryption.NIP04 else nip44.decrypt(event.content, key)
    assert json.loads(text) == {"method": "make_invoice", "params": params}


def test_a_request_that_is_too_long() -> None:
    with pytest.raises(InvalidInput):
        SESSION.request(
            MAKE_INVOICE, {"d": "x" * 70_000}, Encryption.NIP44, created_at=1, expires_at=2, nonce=NONCE, aux=AUX
        )


def test_the_filters_match_what_the_wallet_writes() -> None:
    response, newer, older = written(23195, {}), written(23197, {}), written(23196, {})
    info = sign_event(WALLET, created_at=1, kind=13194, tags=[], content="", aux=AUX)
    modern, legacy = SESSION.answer_filter(Encryption.NIP44), SESSION.answer_filter(Encryption.NIP04)
    assert [matches(modern, event) for event in (response, newer, older)] == [True, True, False]
    assert [matches(legacy, event) for event in (response, newer, older)] == [True, False, True]
    assert matches(SESSION.info_filter(), info)
    for stranger in (written(23195, {}, author=OTHER), written(23195, {}, to="b" * 64)):
        assert not matches(modern, stranger)


def test_the_published_info_event() -> None:
    info = SESSION.read_info(sign_event(WALLET, created_at=5, kind=13194, tags=INFO_TAGS, content=INFO, aux=AUX))
    assert info is not None
    assert {"make_invoice", "lookup_invoice"} <= info.methods
    assert info.notifications == {"payment_received", "payment_sent"}
    assert (info.encryption, info.since) == (Encryption.NIP44, 5)
    assert SESSION.read_info(written(23195, {})) is None


ENCRYPTIONS = [
    ([], Encryption.NIP04),
    ([["encryption", "nip04"]], Encryption.NIP04),
    ([["encryption", ""]], Encryption.NIP04),
    ([["encryption"]], Encryption.NIP04),
    ([["encryption", "nip44_v3"]], Encryption.NIP04),
    ([["encryption", "nip44_v2"]], Encryption.NIP44),
    ([["encryption", "nip04 nip44_v2"]], Encryption.NIP44),
]


@pytest.mark.parametrize(("tags", "encryption"), ENCRYPTIONS)
def test_the_encryption_a_wallet_announces(tags: list[list[str]], encryption: Encryption) -> None:
    event = sign_event(WALLET, created_at=1, kind=13194, tags=tags, content="make_invoice", aux=AUX)
    info = SESSION.read_info(event)
    assert info is not None and info.encryption is encryption


def test_a_forged_info_event_cannot_weaken_the_encryption() -> None:
    good = sign_event(WALLET, created_at=1, kind=13194, tags=[["encryption", "nip44_v2"]], content="", aux=AUX)
    forged = Event(good.id, good.pubkey, 1, 13194, [], "", good.sig)
    with pytest.raises(InvalidSignature):
        SESSION.read_info(forged)
    stranger = sign_event(OTHER, created_at=2, kind=13194, tags=[], content="", aux=AUX)
    assert SESSION.read_info(stranger) is None


RESULT = {"type": "incoming", "state": "settled", "payment_hash": HASH, "amount": 1_000, "settled_at": 5}


@pytest.mark.parametrize("encryption", Encryption)
def test_a_response_is_read(encryption: Encryption) -> None:
    event = written(23195, {"result_type": "lookup_invoice", "error": None, "result": RESULT}, encryption=encryption)
    response = SESSION.read_response(event, encryption)
    assert response is not None
    assert (response.request, response.method, response.error) == ("a" * 64, "lookup_invoice", None)
    found = response.transaction()
    assert (found.payment_hash, found.amount, found.progress) == (HASH, 1_000, Progress.SETTLED)
    with pytest.raises(InvalidPayload):
        SESSION.read_response(event, Encryption.NIP44 if encryption is Encryption.NIP04 else Encryption.NIP04)


ERRORS = [
    ({"code": "NOT_FOUND", "message": "secret words"}, "NOT_FOUND"),
    ({"code": "some words of theirs"}, "OTHER"),
    ({}, "OTHER"),
    ({"code": "A" * 100}, "OTHER"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_a_refusal_is_a_code_and_none_of_its_words(error: object, code: str) -> None:
    response = SESSION.read_response(written(23195, {"result_type": "x", "error": error}), Encryption.NIP44)
    assert response is not None and response.error == code
    assert "words" not in repr(response)


NOT_FOR_US = [
    ("another author", written(23195, {}, author=OTHER)),
    ("to somebody else", written(23195, {}, to="b" * 64)),
    ("about nothing", written(23195, {}, about=None)),
    ("another kind", written(23197, {})),
]


@pytest.mark.parametrize("event", [row[1] for row in NOT_FOR_US], ids=[row[0] for row in NOT_FOR_US])
def test_what_is_not_for_us_is_passed_over(event: Event) -> None:
    assert SESSION.read_response(event, Encryption.NIP44) is None


def test_a_changed_response_is_refused() -> None:
    good = written(23195, {"result_type": "x", "result": RESULT})
    for changed in (
        Event(
            good.id, good.pubkey, good.created_at, good.kind, [["p", SESSION.public_key], ["e", "b" * 64]], "", good.sig
        ),
        Event(good.id, good.pubkey, good.created_at, good.kind, good.tags, good.content, "0" * 128),
    ):
        with pytest.raises(InvalidSignature):
            SESSION.read_response(changed, Encryption.NIP44)


MALFORMED = ["", "[]", "1", "null", '{"error": 5}', '{"error": "NOT_FOUND"}', '{"result_type": 1}', "[" * 10_000, "{"]


@pytest.mark.parametrize("text", MALFORMED[1:])
def test_a_malformed_response_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload):
        SESSION.read_response(written(23195, text), Encryption.NIP44)


BAD_RESULTS: list[object] = [
    None,
    [],
    "x",
    RESULT | {"amount": -1},
    RESULT | {"amount": 10**19},
    RESULT | {"amount": "1000"},
    RESULT | {"amount": 1.5},
    RESULT | {"payment_hash": "zz"},
    RESULT | {"payment_hash": HASH.upper().replace("0", "A")},
    RESULT | {"payment_hash": 5},
    RESULT | {"settled_at": "now"},
]


@pytest.mark.parametrize("result", BAD_RESULTS)
def test_a_malformed_result_is_refused(result: object) -> None:
    response = SESSION.read_response(written(23195, {"result_type": "x", "result": result}), Encryption.NIP44)
    assert isinstance(response, WalletResponse)
    with pytest.raises(InvalidPayload):
        response.transaction()
    notification = {"notification_type": "payment_received", "notification": result}
    with pytest.raises(InvalidPayload):
        SESSION.read_notification(written(23197, notification))


STATES: list[tuple[dict[str, object], Progress]] = [
    ({"state": "settled"}, Progress.SETTLED),
    ({"state": "pending", "settled_at": 5}, Progress.PENDING),
    ({"state": "accepted"}, Progress.PENDING),
    ({"state": "expired"}, Progress.OVER),
    ({"state": "failed"}, Progress.OVER),
    ({"state": "something new"}, Progress.PENDING),
    ({"settled_at": 5}, Progress.SETTLED),
    ({"state": "", "settled_at": 5}, Progress.SETTLED),
    ({"settled_at": 0}, Progress.PENDING),
    ({"settled_at": None, "preimage": "00"}, Progress.PENDING),
    ({}, Progress.PENDING),
]


@pytest.mark.parametrize(("result", "progress"), STATES)
def test_what_a_wallet_says_of_an_invoice(result: dict[str, object], progress: Progress) -> None:
    response = SESSION.read_response(written(23195, {"result": result}), Encryption.NIP44)
    assert response is not None and response.transaction().progress is progress


@pytest.mark.parametrize("kind", [23197, 23196])
def test_a_notification_is_read(kind: int) -> None:
    encryption = Encryption.NIP44 if kind == 23197 else Encryption.NIP04
    value = {"notification_type": "payment_received", "notification": RESULT | {"metadata": {"comment": "hi"}}}
    found = SESSION.read_notification(written(kind, value, encryption=encryption, about=None))
    assert found is not None
    assert (found.payment_hash, found.amount, found.metadata) == (HASH, 1_000, {"comment": "hi"})
    assert SESSION.read_notification(written(kind, value, author=OTHER)) is None
    assert SESSION.read_notification(written(23195, value)) is None
    sent = {"notification_type": "payment_sent", "notification": RESULT}
    assert SESSION.read_notification(written(kind, sent, encryption=encryption)) is None
    with pytest.raises(InvalidPayload):
        SESSION.read_notification(written(kind, "{}", encryption=encryption))


def test_the_answer_to_a_relays_challenge() -> None:
    event = SESSION.auth("wss://relay.example", "abc", created_at=5, aux=AUX)
    verify_event(event)
    assert (event.kind, event.pubkey) == (22242, SESSION.public_key)
    assert event.tags == [["relay", "wss://relay.example"], ["challenge", "abc"]]
