"""What strangers send to the SDK, whatever it is: read within its bounds, or refused by an error of ours."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, NoReturn
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pennypost import keyring
from pennypost.cli.lines import Line, parse_line
from pennypost.keys import person
from pennypost.lightning import open_wallet
from pennypost.lnurl import MAX_ADDRESS, MAX_COMMENT, MOST_MSAT, PayPoint, look_up, parse_lnurl, request_invoice
from pennypost.protocol import answers, bech32, nip44, secp
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    HomeLocked,
    HomeUnusable,
    InvalidInput,
    InvalidKey,
    InvalidPayload,
    InvalidWalletLink,
    InvoiceMismatch,
    OfficeMisbehaves,
    OfficeUnreachable,
    PennypostError,
    WalletRefuses,
)
from pennypost.protocol.event import sign_event
from pennypost.protocol.nip19 import encode_npub
from pennypost.protocol.nip47 import Encryption, WalletLink, WalletResponse, WalletSession
from pennypost.protocol.postmark import is_genuine, read_postmark
from pennypost.protocol.scan_key import ScanKey, decode_scan_key, encode_scan_key
from pennypost.protocol.sealed import LEAST_LOG_N, seal
from pennypost.transport import BODY_LIMIT, NetworkTransport, Response, parse_address

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def changed(text: str) -> st.SearchStrategy[str]:
    """A good text with a few characters replaced, or cut, or with more behind it."""
    place = st.tuples(st.integers(0, len(text) - 1), st.characters() | st.sampled_from('0aq1:{"[ '))
    cut = st.integers(0, len(text) - 1).map(lambda at: text[:at])
    return st.lists(place, min_size=1, max_size=3).map(lambda places: _put(text, places)) | cut


def _put(text: str, places: list[tuple[int, str]]) -> str:
    letters = list(text)
    for at, letter in places:
        letters[at] = letter
    return "".join(letters)


# How people and addresses are named

NPUB = encode_npub(secp.xonly(b"\2" * 32))
SCAN = ScanKey(b"\1" * 32, secp.xonly(b"\2" * 32))


@given(st.text(max_size=200) | changed(NPUB) | changed(SCAN.spend.hex()) | st.binary(max_size=40).map(bytes.hex))
def test_any_text_is_a_person_or_refused(text: str) -> None:
    with suppress(InvalidKey):
        assert len(person(text)) == 32


@given(st.text(max_size=200) | changed(encode_scan_key(SCAN)))
def test_any_text_is_a_scan_key_or_refused(text: str) -> None:
    with suppress(InvalidKey):
        key = decode_scan_key(text)
        assert secp.valid_secret(key.secret) and encode_scan_key(key) == text.strip().lower()


@given(st.binary(min_size=64, max_size=64))
def test_any_two_keys_are_a_scan_key_or_refused(data: bytes) -> None:
    """With a right checksum, so that what follows it is reached."""
    with suppress(InvalidKey):
        text = bech32.encode("ppscan", bech32.regroup(data, 8, 5))
        assert decode_scan_key(text) == ScanKey(data[:32], data[32:])


# LNURL


def lnurl_of(data: bytes) -> str:
    return bech32.encode("lnurl", bech32.regroup(data, 8, 5))


_hosts = st.sampled_from(["bob.example", "8.8.8.8", "[2606:4700::1]", "127.0.0.1", "localhost", "[", "x.onion", "xn--"])
_urls = st.builds(lambda scheme, host, rest: f"{scheme}://{host}{rest}",
                  st.sampled_from(["https", "http", "lnurlp", "file"]), _hosts, st.text(max_size=20))  # fmt: skip
_addresses = (
    st.text(max_size=100)
    | changed(lnurl_of(b"https://bob.example/pay"))
    | (st.binary(max_size=100) | _urls.map(lambda url: url.encode("utf-8", "replace"))).map(lnurl_of)
    | st.text(max_size=100).map(lambda text: f"lnurlp://{text}")
    | st.tuples(st.text("abAB19_.+-", max_size=70), _hosts | st.text(max_size=30)).map("@".join)
    | _urls
)


@given(_addresses)
@example("lnurlp://[")
@example("lnurl1" + "q" * MAX_ADDRESS)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        assert "://" in parse_lnurl(text) or text.lower().strip().removeprefix("lightning:").startswith("lnurl1")


class Stranger:
    """A service that answers with these bytes, and counts how often it is asked."""

    def __init__(self, body: bytes) -> None:
        self.body, self.asked = body, list[str]()

    async def request(self, method: str, url: str, *, limit: int = BODY_LIMIT, **_: Any) -> Response:
        self.asked.append(url)
        return Response(200, self.body[:limit])

    async def websocket(self, url: str, **_: Any) -> NoReturn:
        raise OfficeUnreachable

    async def close(self) -> None:
        pass


async def nowhere(*_: object, **__: object) -> NoReturn:
    """No example asks a name server."""
    raise OSError


GOOD: Mapping[str, Any] = {
    "tag": "payRequest",
    "callback": "https://8.8.8.8/pay",
    "minSendable": 1,
    "maxSendable": 2_000,
    "commentAllowed": 100,
    "metadata": '[["text/plain", "bob"]]',
}
_points = st.dictionaries(
    st.sampled_from([*GOOD, "status"]), _json | st.integers() | _urls | _json.map(json.dumps), max_size=3
).map(lambda each: json.dumps({**GOOD, **each}).encode("utf-8", "surrogatepass"))


@settings(deadline=None)
@given(_points | st.binary(max_size=100) | _json.map(lambda each: json.dumps(each).encode()))
@example(json.dumps({**GOOD, "callback": "https://["}).encode())
@example(json.dumps({**GOOD, "metadata": "[" * 30_000}).encode())
@example(json.dumps(GOOD).encode())
def test_any_answer_is_a_point_to_pay_at_or_refused(body: bytes) -> None:
    with patch.object(asyncio.BaseEventLoop, "getaddrinfo", nowhere):
        try:
            point = asyncio.run(look_up("bob@8.8.8.8", Stranger(body)))
        except (InvalidInput, OfficeMisbehaves, OfficeUnreachable, WalletRefuses):
            return
    assert 0 < point.least <= point.most <= MOST_MSAT and 0 <= point.comment <= MAX_COMMENT
    assert len(point.callback) <= MAX_ADDRESS and point.callback.startswith(("https://", "http://"))


@settings(deadline=None, max_examples=60)
@given(_addresses)
@example("lnurlp://xn--.onion")
@example("lnurlp://xn--a.onion:1/x?y#z")
def test_whatever_an_address_leads_to_only_our_errors_come_of_it(text: str) -> None:
    """Through the real transport: names are not resolved here, so that nobody is dialled."""

    async def ask() -> PayPoint:
        network = NetworkTransport()
        try:
            return await look_up(text, network)
        finally:
            await network.close()

    refused = patch.object(asyncio.BaseEventLoop, "create_connection", nowhere)
    with patch.object(asyncio.BaseEventLoop, "getaddrinfo", nowhere), refused, pytest.raises(PennypostError):
        asyncio.run(ask())


POINT = PayPoint("https://8.8.8.8/pay", 1, 10_000, 10, sha256(b"x").digest())
INVOICE = write_invoice(b"\1" * 32, 2_000, b"\2" * 32, b"\3" * 32, POINT.description_hash, 1_700_000_000, 60)


@settings(deadline=None)
@given(
    st.binary(max_size=100)
    | _json.map(lambda each: json.dumps(each).encode())
    | (st.text(max_size=300) | changed(INVOICE)).map(
        lambda text: json.dumps({"pr": text}).encode("utf-8", "surrogatepass")
    )
)
@example(json.dumps({"pr": INVOICE}).encode())
def test_any_answer_is_the_invoice_asked_for_or_refused(body: bytes) -> None:
    try:
        text = asyncio.run(request_invoice(POINT, 2_000, "hi", Stranger(body)))
    except (OfficeMisbehaves, WalletRefuses, InvoiceMismatch):
        return
    invoice = parse_invoice(text)
    assert invoice.amount_msat == 2_000 and invoice.description_hash in (None, POINT.description_hash)


@settings(deadline=None)
@given(st.integers(), st.text(max_size=20))
def test_no_amount_and_comment_out_of_bounds_are_asked_for(msat: int, comment: str) -> None:
    service = Stranger(b"{}")
    with pytest.raises((InvalidInput, InvoiceMismatch)):
        asyncio.run(request_invoice(POINT, msat, comment, service))
    assert len(service.asked) == (POINT.least <= msat <= POINT.most and len(comment) <= POINT.comment)


# Mints, offices, wallets and nodes

POINT_HEX = "02" + "ab" * 32
MINT_ANSWERS: Mapping[type[msgspec.Struct], Any] = {
    answers.SignaturesAnswer: {"signatures": [{"amount": 1, "id": "00" * 8, "C_": POINT_HEX}]},
    answers.RestoreAnswer: {"outputs": [{"amount": 1, "id": "00" * 8, "B_": POINT_HEX}], "signatures": []},
    answers.CheckStateAnswer: {"states": [{"Y": POINT_HEX, "state": "SPENT", "witness": None}]},
    answers.QuoteAnswer: {"quote": "q", "request": "lnbc1", "amount": 1, "unit": "sat", "state": "PAID", "expiry": 1},
    answers.KeysAnswer: {"keysets": [{"id": "00" * 8, "unit": "sat", "keys": {"1": POINT_HEX}}]},
    answers.KeysetsAnswer: {"keysets": [{"id": "00" * 8, "unit": "sat", "active": True}]},
    answers.MintInfo: {"name": "m", "nuts": {"4": {"methods": []}}, "time": 1},
    answers.ErrorAnswer: {"detail": "x", "code": 1},
}


def bent(good: Any) -> st.SearchStrategy[bytes]:
    """A good answer with something else somewhere in it, or none at all."""
    return changed(json.dumps(good)).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.builds(
        lambda name, value: json.dumps({**good, name: value}).encode(), st.sampled_from([*good]), _json
    )


@given(st.sampled_from([*MINT_ANSWERS]).flatmap(lambda kind: st.tuples(st.just(kind), bent(MINT_ANSWERS[kind]))))
@example((answers.MintInfo, b'{"nuts": {"4": ' + b"9" * 5_000 + b"}}"))
@example((answers.MintInfo, b'{"nuts": {"4": ' + b"[" * 100_000))
@example((answers.KeysAnswer, json.dumps(MINT_ANSWERS[answers.KeysAnswer]).encode()))
def test_any_answer_of_a_mint_is_read_or_refused(case: tuple[type[msgspec.Struct], bytes]) -> None:
    kind, body = case
    with suppress(OfficeMisbehaves):
        found = answers.read_answer(body, kind)
        assert isinstance(found, kind)
        if isinstance(found, answers.KeysAnswer):
            for each in found.keysets:
                assert all(secp.is_point(key) for key in answers.keys_of(each).values())


POSTMARK = {"office": "f9" * 32, "stored_at": 1, "keep_until": 2, "sat": 3, "sig": "9" * 128}


@given(_json | st.builds(lambda name, value: {**POSTMARK, name: value}, st.sampled_from([*POSTMARK]), _json))
@example(POSTMARK)
def test_any_postmark_is_read_or_refused_and_none_is_genuine(value: object) -> None:
    with suppress(OfficeMisbehaves):
        assert not is_genuine(read_postmark(value), "00" * 32)


@given(st.text(max_size=100) | _urls | changed("https://post.example:8443/x"))
@example("http://[")
@example("http://a:99999")
@example("//")
def test_any_text_is_an_address_of_an_office_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        address = parse_address(text)
        assert address.startswith(("http://", "https://")) and parse_address(address) == address


NWC = f"nostr+walletconnect://{'79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798'}"
_wallet_links = changed(f"{NWC}?relay=wss://r.example&secret={'1' * 64}") | st.text(max_size=60).flatmap(
    lambda text: st.sampled_from([f"{NWC}?{text}", f"lnd+https://{text}", f"lnd+http://n:1?macaroon={text}", text])
)


@given(_wallet_links)
@example("lnd+https://n:99999?macaroon=x")
@example("lnd+https://[?macaroon=x")
@example("lnd+http://n:1?macaroon=\0")
@example("lnd+http://n:1?macaroon=\ud800")
def test_any_text_is_the_link_of_a_wallet_or_refused(text: str) -> None:
    with suppress(InvalidWalletLink):
        assert repr(open_wallet(text, Stranger(b""))).endswith(("()", ">")) or text.startswith("play:")


@given(st.binary(max_size=60) | bent({"type": "incoming", "amount": 1, "invoice": "lnbc1", "payment_hash": "0" * 64,
                                      "metadata": {"comment": "x"}, "preimage": "1" * 64, "balance": 5,
                                      "fees_paid": 1, "methods": ["x"], "state": "settled"}))  # fmt: skip
@example(b"9" * 5_000)
@example(b"[" * 100_000)
def test_any_answer_of_a_wallet_is_read_or_refused(body: bytes) -> None:
    response = WalletResponse("00" * 32, "lookup_invoice", None, msgspec.Raw(body))
    for read in (response.transaction, response.payment, response.balance, response.state):
        with suppress(InvalidPayload):
            assert read() is not None


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60) | _json.map(json.dumps))
@example("[" * 30_000)
def test_any_text_that_a_wallet_signs_is_read_or_refused(text: str) -> None:
    """Encrypted to us and signed by the wallet: so what is inside is reached."""
    link = WalletLink(secp.xonly(b"\1" * 32), b"\2" * 32, ("wss://r.example",))
    session = WalletSession(link)
    key = nip44.conversation_key(b"\1" * 32, secp.xonly(b"\2" * 32))
    for kind, read in ((23195, lambda event: session.read_response(event, Encryption.NIP44)),
                       (23197, session.read_notification)):  # fmt: skip
        with suppress(InvalidInput):
            content = nip44.encrypt(text, key, bytes(32))
            tags = [["p", secp.xonly(b"\2" * 32).hex()], ["e", "00" * 32]]
            event = sign_event(b"\1" * 32, created_at=1, kind=kind, tags=tags, content=content, aux=bytes(32))
            read(event)


# Lines of many letters

_lines = st.dictionaries(
    st.sampled_from(["text", "to", "once", "subject", "reply_to", "txt"]), _json | st.text(max_size=20), max_size=6
)


@given(st.text(max_size=200) | changed('{"to": "npub1x", "text": "hi"}') | _lines.map(json.dumps))
@example("[" * 100_000)
@example('{"text": "\\ud800"}')
@example("\udcff")
def test_any_line_is_a_letter_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        line = parse_line(text)
        assert isinstance(line, Line) and isinstance(line.text, str) and isinstance(line.once, str | None)
        line.text.encode()


# Files of an encrypted home

KEY = b"\7" * 32
SEALED = keyring.seal_file(KEY, "identity", "nsec1 of somebody")
WORDS = "correct horse battery staple"
RING = seal(KEY, WORDS, name=keyring.NAME, salt=bytes(16), nonce=bytes(12), log_n=LEAST_LOG_N)


@given(st.text(max_size=200) | changed(SEALED) | st.binary(max_size=60).map(lambda data: f"sealed1:{data.hex()}"))
@example("sealed1:")
@example("sealed1:" + "00" * 12)
def test_any_file_opens_as_it_was_sealed_or_is_refused(text: str) -> None:
    with suppress(HomeUnusable):
        assert keyring.open_file(KEY, "identity", text) == "nsec1 of somebody"


_rings = st.dictionaries(
    st.sampled_from([name for name in json.loads(RING) if name != "log_n"]),
    _json | st.sampled_from(["00" * 16, "0" * 31, 10, 1]),
)


@settings(deadline=None, max_examples=60)
@given(
    st.text(max_size=200)
    | changed(RING)
    | _json.map(json.dumps)
    | _rings.map(lambda each: json.dumps({**json.loads(RING), **each})),
    st.text(max_size=20),
)
@example("[" * 100_000, WORDS)
def test_any_key_ring_opens_by_its_passphrase_or_is_refused(text: str, passphrase: str) -> None:
    # A larger cost is allowed, and takes up to 1 GiB.
    assume(not re.search(r'"log_n": *(1[1-9]|20)', text))
    for words in (passphrase, WORDS):
        with suppress(HomeLocked, HomeUnusable):
            assert keyring.open_ring(text, words) == KEY
