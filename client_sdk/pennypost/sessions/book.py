"""What a home keeps of sessions: its own keys, those that others gave, the state of every session.

A state has a version, and is saved only over the one it was made from: two programs of one home never use a key twice.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Final

from pennypost.sessions.prekeys import Prekeys, encode_prekeys, parse_prekeys

SESSIONS: Final = 5
"""Sessions kept for one device of somebody: both sides may begin at once, and either may begin anew."""
DEVICES: Final = 10
"""Devices of one person."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session: `id` names it to both sides, `agreement` is sent along until the other side has answered."""

    peer: str
    device: str
    id: str
    names: bytes = field(repr=False)
    state: str = field(repr=False)
    agreement: bytes | None = field(repr=False)
    version: int
    used_at: int


_COLUMNS = "peer, device, id, names, state, agreement, version, used_at"


def own_on(connection: sqlite3.Connection) -> tuple[str, int] | None:
    """Our own device's keys, and their version."""
    row = connection.execute("SELECT state, version FROM session_device").fetchone()
    return None if row is None else (row[0], row[1])


def save_own_on(connection: sqlite3.Connection, state: str, version: int) -> bool:
    """Save our own keys over those with this version (0: there were none); False where somebody was faster."""
    if version == 0:
        return (
            connection.execute(
                "INSERT INTO session_device (id, state, version) VALUES (1, ?, 1) ON CONFLICT (id) DO NOTHING", (state,)
            ).rowcount
            == 1
        )
    return (
        connection.execute(
            "UPDATE session_device SET state = ?, version = version + 1 WHERE version = ?", (state, version)
        ).rowcount
        == 1
    )


def keep_prekeys_on(connection: sqlite3.Connection, prekeys: Prekeys) -> None:
    """Prekeys of somebody's device: of two, those that were made later, and of the same time those with a key more."""
    connection.execute(
        "INSERT INTO session_prekeys (peer, device, word, made_at, once) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (peer, device) DO UPDATE SET word = excluded.word, made_at = excluded.made_at,"
        " once = excluded.once WHERE (excluded.made_at, excluded.once) > (made_at, once)",
        (prekeys.owner, prekeys.device, encode_prekeys(prekeys), prekeys.made_at, prekeys.once is not None),
    )
    connection.execute(
        "DELETE FROM session_prekeys WHERE peer = ? AND device NOT IN"
        " (SELECT device FROM session_prekeys WHERE peer = ? ORDER BY made_at DESC LIMIT ?)",
        (prekeys.owner, prekeys.owner, DEVICES),
    )


def prekeys_on(connection: sqlite3.Connection, peer: str) -> list[Prekeys]:
    """What is known of somebody's devices."""
    rows = connection.execute("SELECT word FROM session_prekeys WHERE peer = ? ORDER BY device", (peer,))
    return [parse_prekeys(word) for (word,) in rows]


def used_prekeys_on(connection: sqlite3.Connection, prekeys: Prekeys) -> None:
    """A one-time prekey is used once."""
    connection.execute(
        "DELETE FROM session_prekeys WHERE peer = ? AND device = ? AND word = ?",
        (prekeys.owner, prekeys.device, encode_prekeys(prekeys)),
    )


def session_on(connection: sqlite3.Connection, peer: str, device: str, id: str) -> SessionRow | None:
    """One session."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM sessions WHERE peer = ? AND device = ? AND id = ?", (peer, device, id)
    ).fetchone()
    return None if row is None else SessionRow(*row)


def newest_on(connection: sqlite3.Connection, peer: str) -> list[SessionRow]:
    """The session to write in, for each device of somebody: the one that was heard last."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM sessions WHERE peer = ? ORDER BY device, used_at, id", (peer,)
    ).fetchall()
    return list({row[1]: SessionRow(*row) for row in rows}.values())


def save_on(connection: sqlite3.Connection, row: SessionRow) -> bool:
    """Save a session over the one with its version (0: it is new); False where somebody was faster."""
    if row.version == 0:
        done = connection.execute(
            f"INSERT INTO sessions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 1, ?) ON CONFLICT DO NOTHING",
            (row.peer, row.device, row.id, row.names, row.state, row.agreement, row.used_at),
        )
        connection.execute(
            "DELETE FROM sessions WHERE peer = ? AND device = ? AND id NOT IN"
            " (SELECT id FROM sessions WHERE peer = ? AND device = ? ORDER BY used_at DESC, id LIMIT ?)",
            (row.peer, row.device, row.peer, row.device, SESSIONS),
        )
    else:
        done = connection.execute(
            "UPDATE sessions SET state = ?, agreement = ?, used_at = ?, version = version + 1"
            " WHERE peer = ? AND device = ? AND id = ? AND version = ?",
            (row.state, row.agreement, row.used_at, row.peer, row.device, row.id, row.version),
        )
    return done.rowcount == 1


def forget_on(connection: sqlite3.Connection, peer: str, device: str, id: str) -> bool:
    """A session that the other side has lost; whether there was one."""
    return (
        connection.execute("DELETE FROM sessions WHERE peer = ? AND device = ? AND id = ?", (peer, device, id)).rowcount
        == 1
    )


def drop_on(connection: sqlite3.Connection, peer: str, device: str) -> int:
    """Everything of the devices of somebody whose names begin so; how many sessions it was."""
    connection.execute(
        "DELETE FROM session_prekeys WHERE peer = ? AND substr(device, 1, ?) = ?", (peer, len(device), device)
    )
    done = connection.execute(
        "DELETE FROM sessions WHERE peer = ? AND substr(device, 1, ?) = ?", (peer, len(device), device)
    )
    return done.rowcount


def received_on(connection: sqlite3.Connection, event_id: str) -> tuple[str, int, str] | None:
    """Text, time and device of a message that was opened and not yet read."""
    row = connection.execute(
        "SELECT text, sent_at, device FROM session_mail WHERE event_id = ?", (event_id,)
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def receive_on(connection: sqlite3.Connection, event_id: str, text: str, sent_at: int, device: str) -> None:
    """A message that was opened, in the transaction that moves its session on."""
    connection.execute(
        "INSERT INTO session_mail (event_id, text, sent_at, device) VALUES (?, ?, ?, ?)",
        (event_id, text, sent_at, device),
    )


def read_on(connection: sqlite3.Connection, event_id: str) -> None:
    """A message that was read is forgotten: nothing opens it again."""
    connection.execute("DELETE FROM session_mail WHERE event_id = ?", (event_id,))


def lost_on(connection: sqlite3.Connection, peer: str, device: str, id: str) -> None:
    """A session that somebody writes in and we do not have: he has to be told."""
    connection.execute(
        "INSERT INTO session_resets (peer, device, id, told) VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING",
        (peer, device, id),
    )


def untold_on(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Who has to be told of a lost session: peer, device, session."""
    return connection.execute("SELECT peer, device, id FROM session_resets WHERE NOT told LIMIT 100").fetchall()


def told_on(connection: sqlite3.Connection, peer: str, device: str, id: str) -> None:
    """He was told; once is enough."""
    connection.execute(
        "UPDATE session_resets SET told = 1 WHERE peer = ? AND device = ? AND id = ?", (peer, device, id)
    )
