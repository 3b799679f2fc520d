"""NIP-04: against itself, known bytes, and whatever a stranger could send.."""

from __future__ import annotations

import base64

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import nip04, secp
from pennypost.protocol.errors import InvalidInput, InvalidPayload

KEY, IV = bytes(range(32)), bytes(range(16))


def test_both_sides_share_the_key() -> None:
    ours, theirs = b"\x01" * 32, b"\x02" * 32
    assert secp.ecdh_x(ours, secp.xonly(theirs)) == secp.ecdh_x(theirs, secp.xonly(ours))


def test_known_bytes() -> None:
    # `printf 'hello' | openssl enc -aes-256-cbc -K 000102…1f -iv 000102…0f -a`
    assert nip04.encrypt("hello", KEY, IV) == "f9Etr7fpWZ0LhJrYwuPCHw==?iv=AAECAwQFBgcICQoLDA0ODw=="


@settings(max_examples=100)
@given(st.text(max_size=300).filter(lambda text: text.isprintable() or not text))
def test_round_trip(text: str) -> None:
    assert nip04.decrypt(nip04.encrypt(text, KEY, IV), KEY) == text


def test_the_longest_text() -> None:
    text = "x" * nip04.MAX_PLAINTEXT
    assert nip04.decrypt(nip04.encrypt(text, KEY, IV), KEY) == text
    for refused in (text + "x", "\ud800"):
        with pytest.raises(InvalidInput):
            nip04.encrypt(refused, KEY, IV)


GOOD = nip04.encrypt("hello", KEY, IV)
CIPHERTEXT = GOOD.partition("?")[0]
BLOCK = base64.b64encode(bytes(16)).decode()
BAD = [
    ("", "empty"),
    (CIPHERTEXT, "no iv"),
    (f"{CIPHERTEXT}?iv=", "an empty iv"),
    (f"{CIPHERTEXT}?iv={BLOCK}=", "an iv that is not base64"),
    (f"{CIPHERTEXT}?iv={base64.b64encode(bytes(15)).decode()}", "a short iv"),
    (f"?iv={BLOCK}", "no ciphertext"),
    (f"AAAA?iv={BLOCK}", "part of a block"),
    (f"{CIPHERTEXT[:-4]}!!!!?iv={BLOCK}", "not base64"),
    (f"{BLOCK}?iv={BLOCK}", "wrong padding"),
    ("A" * 200_000 + f"?iv={BLOCK}", "too long"),
]


@pytest.mark.parametrize("payload", [row[0] for row in BAD], ids=[row[1] for row in BAD])
def test_refused(payload: str) -> None:
    with pytest.raises(InvalidPayload):
        nip04.decrypt(payload, KEY)


def test_what_is_no_text_is_refused() -> None:
    # "hello" with its first bytes turned by the iv, which nothing protects
    turned = base64.b64encode(bytes([IV[0] ^ ord("h") ^ 0xFF]) + IV[1:]).decode()
    with pytest.raises(InvalidPayload):
        nip04.decrypt(f"{CIPHERTEXT}?iv={turned}", KEY)


@settings(max_examples=200)
@given(st.text(max_size=100))
def test_any_text_is_refused_by_its_own_error(text: str) -> None:
    with pytest.raises(InvalidPayload):
        nip04.decrypt(text, KEY)


def test_nostr_sdk_reads_and_writes_the_same() -> None:
    ours, theirs = b"\x01" * 32, b"\x02" * 32
    key = secp.ecdh_x(ours, secp.xonly(theirs))
    secret, public = nostr_sdk.SecretKey.parse(theirs.hex()), nostr_sdk.PublicKey.parse(secp.xonly(ours).hex())
    assert nostr_sdk.nip04_decrypt(secret, public, nip04.encrypt("grüße", key, IV)) == "grüße"
    assert nip04.decrypt(nostr_sdk.nip04_encrypt(secret, public, "grüße"), key) == "grüße"
