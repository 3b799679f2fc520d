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

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pennypost import keyring
from pennypost.keys import person
from pennypost.lnurl import MAX_ADDRESS, MAX_COMMENT, MOST_MSAT, PayPoint, look_up, parse_lnurl, request_invoice
from pennypost.protocol import bech32, secp
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    HomeLocked,
    HomeUnusable,
    InvalidInput,
    InvalidKey,
    InvoiceMismatch,
    OfficeMisbehaves,
    OfficeUnreachable,
    PennypostError,
    WalletRefuses,
)
from pennypost.protocol.nip19 import encode_npub
from pennypost.protocol.scan_key import ScanKey, decode_scan_key, encode_scan_key
from pennypost.protocol.sealed import LEAST_LOG_N, seal
from pennypost.transport import BODY_LIMIT, NetworkTransport, Response

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
