"""Links that sign in once, and sessions: random secrets of which the database knows the hash.

make_link_on ─▶ is_link_on, use_link_on ─┐
NIP-98 ─▶ begin_on ──────────────────────┴▶ a secret for the cookie ─▶ session_on … ─▶ end_on
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select

from pennypost.protocol.errors import LinkInvalid
from pennypost_mint.runtime.sets import insert_ignore
from pennypost_postoffice.tables import sign_ins

LINK_SECONDS = 600
SESSION_SECONDS = 2 * 3_600

MOST = 1_000
"""Rows of the table; past it the oldest go."""

LINK, SESSION = "link", "session"
"""Purposes of a row."""

_SECRET = re.compile(r"[0-9a-f]{64}")
_c = sign_ins.c


class Session(NamedTuple):
    """Who is signed in: `pubkey` (hex) of an operator who signed, None by a link; until Unix time `until`."""

    secret: str
    pubkey: str | None
    until: int

    @property
    def form_key(self) -> str:
        """What each form of this session carries, and no other site knows."""
        return hmac.digest(bytes.fromhex(self.secret), b"pennypost/form", "sha256").hex()


def is_secret(text: str) -> bool:
    """Whether it has the form of a link's or a session's secret."""
    return _SECRET.fullmatch(text) is not None


def make_link_on(connection: Connection, now: int) -> str:
    """The secret of a new link, good once until LINK_SECONDS after `now` (Unix seconds)."""
    return _add(connection, LINK, None, now, now + LINK_SECONDS)


def is_link_on(connection: Connection, secret: str, now: int) -> bool:
    """Whether a link has this secret and is still good."""
    found = select(_c.hash).where(_c.hash == _hash(secret), _c.purpose == LINK, _c.until > now)
    return connection.execute(found).first() is not None


def use_link_on(connection: Connection, secret: str, now: int) -> str:
    """Uses a link up; the secret of the session it begins. Raises LinkInvalid."""
    used = delete(sign_ins).where(_c.hash == _hash(secret), _c.purpose == LINK, _c.until > now)
    if connection.execute(used).rowcount != 1:
        raise LinkInvalid
    return _add(connection, SESSION, None, now, now + SESSION_SECONDS)


def begin_on(connection: Connection, pubkey: str, now: int) -> str:
    """The secret of a session for an operator's key (hex) that signed a request, which is used up (operators.py)."""
    return _add(connection, SESSION, bytes.fromhex(pubkey), now, now + SESSION_SECONDS)


def session_on(connection: Connection, secret: str, now: int) -> Session | None:
    """The session of a cookie, while it lasts."""
    found = select(_c.pubkey, _c.until).where(_c.hash == _hash(secret), _c.purpose == SESSION, _c.until > now)
    row = connection.execute(found).first()
    return None if row is None else Session(secret, row.pubkey.hex() if row.pubkey is not None else None, row.until)


def end_on(connection: Connection, secret: str) -> None:
    """Signs out."""
    connection.execute(delete(sign_ins).where(_c.hash == _hash(secret), _c.purpose == SESSION))


def end_all_on(connection: Connection) -> int:
    """Signs everybody out and voids all links; how many there were."""
    return connection.execute(delete(sign_ins).where(_c.purpose.in_((LINK, SESSION)))).rowcount


def _add(connection: Connection, purpose: str, pubkey: bytes | None, now: int, until: int) -> str:
    secret = secrets.token_hex(32)
    connection.execute(delete(sign_ins).where(_c.until <= now))
    if connection.execute(select(func.count()).select_from(sign_ins)).scalar_one() >= MOST:
        oldest = select(_c.hash).order_by(_c.until).limit(1).scalar_subquery()
        connection.execute(delete(sign_ins).where(_c.hash == oldest))
    row = (_hash(secret), purpose, pubkey, until)
    insert_ignore(connection, sign_ins, ("hash", "purpose", "pubkey", "until"), [row], "hash")
    return secret


def _hash(secret: str) -> bytes:
    return sha256(bytes.fromhex(secret)).digest()
