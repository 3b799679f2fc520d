"""NIP-44 against its published vectors, nostr-sdk, and hostile payloads."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import nip44, secp
from pennypost.protocol.errors import InvalidInput, InvalidKey, InvalidPayload
from tests.protocol.vectors import load

VECTORS: Any = load("nip44.vectors.json")["v2"]
VALID, INVALID = VECTORS["valid"], VECTORS["invalid"]

hex_bytes = bytes.fromhex


@pytest.mark.parametrize("row", VALID["get_conversation_key"])
def test_conversation_key(row: dict[str, str]) -> None:
    assert nip44.conversation_key(hex_bytes(row["sec1"]), hex_bytes(row["pub2"])).hex() == row["conversation_key"]


@pytest.mark.parametrize("row", INVALID["get_conversation_key"], ids=lambda row: row["note"])
def test_conversation_key_refuses(row: dict[str, str]) -> None:
    with pytest.raises(InvalidKey):
        nip44.conversation_key(hex_bytes(row["sec1"]), hex_bytes(row["pub2"]))


@pytest.mark.parametrize("row", VALID["get_message_keys"]["keys"])
def test_message_keys(row: dict[str, str]) -> None:
    key = hex_bytes(VALID["get_message_keys"]["conversation_key"])
    found = nip44.message_keys(key, hex_bytes(row["nonce"]))
    assert tuple(part.hex() for part in found) == (row["chacha_key"], row["chacha_nonce"], row["hmac_key"])


@pytest.mark.parametrize(("length", "padded"), VALID["calc_padded_len"])
def test_padded_length(length: int, padded: int) -> None:
    assert nip44.padded_length(length) == padded


@pytest.mark.parametrize("row", VALID["encrypt_decrypt"])
def test_encrypt_and_decrypt(row: dict[str, str]) -> None:
    key = hex_bytes(row["conversation_key"])
    assert nip44.conversation_key(hex_bytes(row["sec1"]), secp.xonly(hex_bytes(row["sec2"]))) == key
    assert nip44.conversation_key(hex_bytes(row["sec2"]), secp.xonly(hex_bytes(row["sec1"]))) == key
    assert nip44.encrypt(row["plaintext"], key, hex_bytes(row["nonce"])) == row["payload"]
    assert nip44.decrypt(row["payload"], key) == row["plaintext"]


@pytest.mark.parametrize("row", VALID["encrypt_decrypt_long_msg"])
def test_long_messages(row: dict[str, Any]) -> None:
    text = row["pattern"] * row["repeat"]
    key = hex_bytes(row["conversation_key"])
    assert sha256(text.encode()).hexdigest() == row["plaintext_sha256"]
    payload = nip44.encrypt(text, key, hex_bytes(row["nonce"]))
    assert sha256(payload.encode()).hexdigest() == row["payload_sha256"]
    assert nip44.decrypt(payload, key) == text


@pytest.mark.parametrize("length", INVALID["encrypt_msg_lengths"])
def test_encrypt_refuses_lengths(length: int) -> None:
    with pytest.raises(InvalidInput):
        nip44.encrypt("x" * length, bytes(32), bytes(32))


@pytest.mark.parametrize("row", INVALID["decrypt"], ids=lambda row: row["note"])
def test_decrypt_refuses(row: dict[str, str]) -> None:
    with pytest.raises(InvalidPayload):
        nip44.decrypt(row["payload"], hex_bytes(row["conversation_key"]))


def test_encrypt_refuses_lone_surrogates() -> None:
    with pytest.raises(InvalidInput):
        nip44.encrypt("a\ud800", bytes(32), bytes(32))


@pytest.mark.parametrize(("key", "nonce"), [(31, 32), (33, 32), (32, 12), (32, 0)])
def test_key_and_nonce_have_32_bytes(key: int, nonce: int) -> None:
    with pytest.raises(ValueError):
        nip44.encrypt("a", bytes(key), bytes(nonce))


KEY = bytes(range(32))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"\xed\xa0\x80", id="a surrogate in UTF-8"),
    ],
)
def test_authentic_but_not_text(text: bytes) -> None:
    nonce = bytes(32)
    cipher_key, cipher_nonce, mac_key = nip44.message_keys(KEY, nonce)
    padded = len(text).to_bytes(2, "big") + text.ljust(32, b"\0")
    with pytest.raises(InvalidPayload):
        nip44.decrypt(_payload(cipher_key, cipher_nonce, mac_key, nonce, padded), KEY)


@pytest.mark.parametrize(
    "padded",
    [
        pytest.param(bytes(2) + bytes(32), id="length zero"),
        pytest.param(b"\0\x21" + bytes(32), id="length beyond the end"),
        pytest.param(b"\0\x01" + bytes(64), id="padded too far"),
        pytest.param(bytes(2) + (65_536).to_bytes(4, "big") + bytes(65_536), id="the long prefix, over our maximum"),
        pytest.param(bytes(2) + (32).to_bytes(4, "big") + bytes(32), id="the long prefix for a short text"),
    ],
)
def test_authentic_but_wrongly_padded(padded: bytes) -> None:
    nonce = bytes(32)
    with pytest.raises(InvalidPayload):
        nip44.decrypt(_payload(*nip44.message_keys(KEY, nonce), nonce, padded), KEY)


def _payload(cipher_key: bytes, cipher_nonce: bytes, mac_key: bytes, nonce: bytes, padded: bytes) -> str:
    """A payload with the right MAC around any padded bytes."""
    from hmac import digest

    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    ciphertext = Cipher(ChaCha20(cipher_key, bytes(4) + cipher_nonce), mode=None).encryptor().update(padded)
    mac = digest(mac_key, nonce + ciphertext, sha256)
    return base64.b64encode(b"\x02" + nonce + ciphertext + mac).decode()


@given(
    text=st.text(min_size=1, max_size=300),
    key=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=32, max_size=32),
)
@settings(max_examples=60, deadline=None)
def test_round_trip(text: str, key: bytes, nonce: bytes) -> None:
    assert nip44.decrypt(nip44.encrypt(text, key, nonce), key) == text


@given(position=st.integers(0, 98), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_one_changed_bit_is_refused(position: int, bit: int) -> None:
    data = bytearray(base64.b64decode(nip44.encrypt("a letter", KEY, bytes(32))))
    data[position] ^= 1 << bit
    with pytest.raises(InvalidPayload):
        nip44.decrypt(base64.b64encode(data).decode(), KEY)


@given(payload=st.text(max_size=200) | st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode()))
@settings(max_examples=100, deadline=None)
def test_anything_else_is_refused(payload: str) -> None:
    with pytest.raises(InvalidPayload):
        nip44.decrypt(payload, KEY)


def test_huge_payloads_are_refused_unread() -> None:
    with pytest.raises(InvalidPayload):
        nip44.decrypt("A" * 50_000_000, KEY)


@given(length=st.integers(1, nip44.MAX_PLAINTEXT))
@settings(max_examples=200, deadline=None)
def test_padding_grows_and_stays_in_bounds(length: int) -> None:
    padded = nip44.padded_length(length)
    assert length <= padded <= max(32, length + length // 4 + 32)
    assert padded <= nip44.padded_length(length + 1)
    assert nip44.padded_length(padded) == padded


def test_nostr_sdk_agrees() -> None:
    ours, theirs = bytes([1]) * 32, bytes([2]) * 32
    text = "Grüße \x00\u2028 😀" * 7
    key = nip44.conversation_key(ours, secp.xonly(theirs))
    payload = nip44.encrypt(text, key, bytes(range(32)))
    their_secret = nostr_sdk.SecretKey.parse(theirs.hex())
    our_public = nostr_sdk.PublicKey.parse(secp.xonly(ours).hex())
    assert nostr_sdk.nip44_decrypt(their_secret, our_public, payload) == text
    answer = nostr_sdk.nip44_encrypt(their_secret, our_public, text, nostr_sdk.Nip44Version.V2)
    assert nip44.decrypt(answer, key) == text
