"""The key ring of a home: the one key that its files and its database are encrypted with, opened by a passphrase.

    passphrase ──▶ sealed (protocol) ──▶ file `keyring` ──▶ key ─┬─▶ identity, wallet.seed, wallet.link   (seal_file)
                                                                 └─▶ pennypost.db                         (database_key)

    encrypt: keyring ─▶ each file ─▶ database          decrypt: database ─▶ each file ─▶ keyring goes

Each step replaces one file, whole and durable: of what was killed in the middle nothing is lost, and running it again,
or the other way, finishes it. Until then the home is not used (HomeHalfEncrypted): nothing is written in clear, and no
file in clear is taken that somebody has put there. Another passphrase changes the key ring alone.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pennypost import database
from pennypost.home import DATABASE, RING, SECRETS, Home
from pennypost.protocol import sealed
from pennypost.protocol.errors import HomeLocked, HomeUnusable, InvalidPayload, PassphraseUnusable

KEY: Final = 32
NAME: Final = "pennypost_keyring"
LEAST: Final = 12
"""Characters of a passphrase."""
MOST: Final = 1_024
LOG_N = sealed.LOG_N
_FILE: Final = "sealed1:"
_NONCE: Final = 12


def new_ring(key: bytes, passphrase: str) -> str:
    """The text of a key ring that holds this key of 32 bytes. Raises PassphraseUnusable."""
    if len(passphrase) < LEAST:
        raise PassphraseUnusable("it is too short")
    checked(passphrase)
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(_NONCE)
    return sealed.seal(key, passphrase, name=NAME, salt=salt, nonce=nonce, log_n=LOG_N)


def open_ring(text: str, passphrase: str) -> bytes:
    """The key in the text of a key ring. Raises HomeLocked, HomeUnusable for a damaged file."""
    try:
        key = sealed.unseal(text, checked(passphrase), name=NAME, size=KEY)
    except InvalidPayload:
        raise HomeUnusable("its key ring is damaged") from None
    if key is None:
        raise HomeLocked("wrong passphrase")
    return key


def checked(passphrase: str) -> str:
    """A passphrase that can be used at all. Raises PassphraseUnusable."""
    if len(passphrase) > MOST:
        raise PassphraseUnusable("it is too long")
    try:
        passphrase.encode()
    except UnicodeEncodeError:
        raise PassphraseUnusable("it is no text") from None
    return passphrase


def is_sealed_file(text: str) -> bool:
    """Whether the text of a file of the home is encrypted."""
    return text.startswith(_FILE)


def seal_file(key: bytes, name: str, text: str) -> str:
    """The text of the home's file `name`, encrypted and bound to that name."""
    nonce = secrets.token_bytes(_NONCE)
    cipher = ChaCha20Poly1305(_derived(key, b"files"))
    return _FILE + (nonce + cipher.encrypt(nonce, text.encode("ascii"), name.encode())).hex()


def open_file(key: bytes, name: str, text: str) -> str:
    """What was in the home's file `name`. Raises HomeUnusable."""
    try:
        held = bytes.fromhex(text.removeprefix(_FILE))
        opened = ChaCha20Poly1305(_derived(key, b"files")).decrypt(held[:_NONCE], held[_NONCE:], name.encode())
    except (ValueError, InvalidTag):
        raise HomeUnusable(f"{name} is damaged, or of another home") from None
    return opened.decode("ascii")


def database_key(key: bytes) -> bytes:
    """The 32-byte key of the home's database."""
    return _derived(key, b"database")


def _derived(key: bytes, use: bytes) -> bytes:
    return hmac.digest(key, b"pennypost/home/" + use, "sha256")


# The whole home


def encrypt(home: Home, passphrase: str) -> None:
    """Encrypt every secret file and the database of a home; what an interrupted run left is finished.

    Raises PassphraseUnusable, HomeInUse while another program uses it, EncryptionMissing where SQLCipher is not
    installed, HomeLocked for another passphrase than that of an interrupted run, HomeUnusable.
    """
    database.require()
    with home.alone():
        home.sweep()
        text = home.text(RING)
        if text is None:
            key = secrets.token_bytes(KEY)
            home.replace(RING, new_ring(key, passphrase))
        else:
            key = open_ring(text, passphrase)
        for name in SECRETS:
            held = home.text(name)
            if held is not None and not is_sealed_file(held):
                home.replace(name, seal_file(key, name, held))
        _rewrite(home, None, database_key(key))


def decrypt(home: Home) -> None:
    """Write everything of a home in clear again; its passphrase is asked of the home.

    Raises HomeLocked, HomeInUse, EncryptionMissing, HomeUnusable.
    """
    database.require()
    with home.alone():
        home.sweep()
        key = home.key()
        if key is None:
            return
        _rewrite(home, database_key(key), None)
        for name in SECRETS:
            held = home.text(name)
            if held is not None and is_sealed_file(held):
                home.replace(name, open_file(key, name, held))
        home.remove(RING)


def change_passphrase(home: Home, passphrase: str) -> None:
    """Give an encrypted home another passphrase; copies made before keep the old one.

    Raises HomeLocked, also where it has none; PassphraseUnusable, HomeInUse, HomeUnusable.
    """
    with home.alone():
        home.sweep()
        key = home.key()
        if key is None:
            raise HomeLocked("this home is not encrypted; `pennypost keys encrypt` does it")
        home.replace(RING, new_ring(key, passphrase))


def _rewrite(home: Home, old: bytes | None, new: bytes | None) -> None:
    assert home.path is not None
    path = home.path / DATABASE
    if path.exists() and database.is_plain(path) == (new is not None):
        draft = home.draft(DATABASE)
        try:
            database.copy(path, old, draft, new)
            home.place(draft, DATABASE)
        finally:
            draft.unlink(missing_ok=True)
