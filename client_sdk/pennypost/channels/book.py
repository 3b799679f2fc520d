"""What a home keeps of channels: who owns them, their keys as long as they may open something, who was told what.

channels ─┬─ channel_keys        a chain for each generation, and single epochs that were bought
          └─ channel_members     of channels of our own: how far each member was told
channel_places                   how far each office's feed was read, and when to its end, for each channel and for
                                 letters that tell of them
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pennypost.protocol import nip19, secp
from pennypost.protocol.channel import (
    MAX_STEPS,
    Chain,
    Epoch,
    Grant,
    epochs_of,
)
from pennypost.protocol.errors import (
    InvalidInput,
)
from pennypost.protocol.headers import TTL_CLASSES

KEEP: Final = TTL_CLASSES[-1]
"""Seconds that an office keeps a post unless told otherwise, and the longest it may."""
SKEW: Final = 86_400
"""Seconds after an epoch's end in which posts by slow clocks, and those that waited in an outbox, are still opened."""
MAX_CHANNELS: Final = 200
"""Channels of one home, invitations included: strangers may send as many as they like."""
MAX_MEMBERS: Final = 5_000
CONTROL: Final = ""
"""Whose place in the feed is that of letters which tell of channels."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as its members know it."""

    id: str
    name: str
    owner: str
    """npub of whoever invites."""
    mine: bool
    joined: bool
    """False for an invitation that was not accepted yet."""
    box: str | None
    """npub of the drop box: letters to it are read by all members."""
    posters: tuple[str, ...]
    """npubs of those who may post; empty: every member."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the posts of a channel now: epochs of all its generations, secrets of its drop boxes (32 bytes)."""

    grant: Grant
    epochs: list[Epoch]
    boxes: list[bytes]


def take_on(
    connection: sqlite3.Connection, grant: Grant, own: str, office: str, now: int, *, joined: bool
) -> Channel | None:
    """Take an invitation, a change by the owner, or a bought key; an older version changes nothing.

    None where another owner's channel has this id, or where there are MAX_CHANNELS already.
    """
    row = connection.execute("SELECT owner, version, state FROM channels WHERE id = ?", (grant.channel,)).fetchone()
    posters = json.dumps(grant.posters)
    if row is None:
        (count,) = connection.execute("SELECT count(*) FROM channels").fetchone()
        if count >= MAX_CHANNELS:
            return None
        connection.execute(
            "INSERT INTO channels (id, office, owner, name, version, posters, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (grant.channel, office, grant.owner, grant.name, grant.version, posters, "joined" if joined else "invited"),
        )
    elif row[0] != grant.owner:
        return None
    else:
        if joined and row[2] == "invited":
            connection.execute("UPDATE channels SET state = 'joined' WHERE id = ?", (grant.channel,))
        if grant.epoch is None and grant.version < row[1]:
            return channel_on(connection, grant.channel, own)
        if grant.epoch is None and grant.version > row[1]:
            connection.execute(
                "UPDATE channels SET name = ?, version = ?, posters = ? WHERE id = ?",
                (grant.name, grant.version, posters, grant.channel),
            )
    _take_key_on(connection, grant, now)
    return channel_on(connection, grant.channel, own)


def _take_key_on(connection: sqlite3.Connection, grant: Grant, now: int) -> None:
    sold = -1 if grant.epoch is None else grant.index
    added = connection.execute(
        "INSERT INTO channel_keys (channel, start, sold, period, position, key, box) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (channel, start, sold) DO NOTHING",
        (grant.channel, grant.start, sold, grant.period, grant.index, grant.chain or grant.epoch, grant.box),
    )
    if added.rowcount:
        # Posts under this key may have been passed over before it came: told late, at another office, or bought.
        connection.execute("UPDATE channel_places SET last = 0, read_at = 0 WHERE channel = ?", (grant.channel,))
    if grant.epoch is None:
        # Another generation: who left still has the keys of the one before.
        connection.execute(
            "UPDATE channel_keys SET until = ? WHERE channel = ? AND start <> ? AND sold = -1 AND until IS NULL",
            (now, grant.channel, grant.start),
        )


def remove_member_on(connection: sqlite3.Connection, grant: Grant, pub: str, now: int) -> None:
    """A fresh generation without this member, in one transaction."""
    connection.execute("DELETE FROM channel_members WHERE channel = ? AND pub = ?", (grant.channel, pub))
    (office,) = connection.execute("SELECT office FROM channels WHERE id = ?", (grant.channel,)).fetchone()
    take_on(connection, grant, grant.owner, office, now, joined=True)


def channel_on(connection: sqlite3.Connection, id: str, own: str) -> Channel | None:
    """One channel as its members see it."""
    return next((each for each in channels_on(connection, own) if each.id == id), None)


def channels_on(connection: sqlite3.Connection, own: str) -> list[Channel]:
    """Every channel and invitation, by name."""
    found: list[Channel] = []
    rows = connection.execute("SELECT id, name, owner, state, posters FROM channels ORDER BY name, id").fetchall()
    for id, name, owner, state, posters in rows:
        grant = grant_on(connection, id)
        box = None if grant is None or grant.box is None else npub_of(secp.xonly(bytes.fromhex(grant.box)).hex())
        named = tuple(npub_of(each) for each in json.loads(posters))
        found.append(Channel(id, name, npub_of(owner), owner == own, state == "joined", box, named))
    return found


def grant_on(connection: sqlite3.Connection, id: str) -> Grant | None:
    """The newest key that is held of a channel: its chain, else the last epoch of it."""
    row = connection.execute(
        "SELECT name, owner, version, posters, start, period, position, sold, key, box FROM channels"
        " JOIN channel_keys ON channel = id WHERE id = ?"
        " ORDER BY sold = -1 AND until IS NULL DESC, start DESC, position DESC LIMIT 1",
        (id,),
    ).fetchone()
    return None if row is None else _grant_of(id, row)


def _grant_of(id: str, row: Sequence[Any]) -> Grant:
    name, owner, version, posters, start, period, position, sold, key, box = row
    chain, epoch = (key, None) if sold == -1 else (None, key)
    return Grant(id, name, owner, version, start, period, position, chain, epoch, box, json.loads(posters))


def keys_on(connection: sqlite3.Connection, only: str | None, now: int) -> list[Keys]:
    """The keys of the channels that are joined, or of one: what an office may still have is opened."""
    found: list[Keys] = []
    joined = "SELECT id FROM channels WHERE state = 'joined' AND (? IS NULL OR id = ?)"
    for (id,) in connection.execute(joined, (only, only)).fetchall():
        newest = grant_on(connection, id)
        if newest is None:
            continue
        rows = connection.execute(
            "SELECT name, owner, version, posters, start, period, position, sold, key, box, until FROM channels"
            " JOIN channel_keys ON channel = id WHERE id = ? ORDER BY start, position",
            (id,),
        ).fetchall()
        epochs: list[Epoch] = []
        boxes: list[bytes] = []
        for *row, until in rows:
            grant = _grant_of(id, row)
            last = now + SKEW if until is None else min(now, until) + SKEW
            epochs += epochs_of(grant, now - KEEP - SKEW, last)
            if grant.box is not None:
                boxes.append(bytes.fromhex(grant.box))
        found.append(Keys(newest, epochs, boxes))
    return found


def tidy_on(connection: sqlite3.Connection, offices: Sequence[str], only: str | None, now: int) -> bool:
    """Delete keys whose time was over when the feed of each of these offices was last read to its end; whether there
    were any. An office that is away delays it until nothing under them can be kept there any more.
    """
    rows = connection.execute(
        "SELECT channel, start, sold, period, position, key, until FROM channel_keys JOIN channels ON channel = id"
        " WHERE state = 'joined' AND (? IS NULL OR id = ?)",
        (only, only),
    ).fetchall()
    changed = False
    for channel, start, sold, period, position, key, until in rows:
        read = connection.execute("SELECT office, read_at FROM channel_places WHERE channel = ?", (channel,))
        read_at = dict(read.fetchall())
        over = max(min(now, *(read_at.get(office, 0) for office in offices)), now - KEEP) - SKEW
        ends_at = start + (position + 1) * period
        if (until is not None and until < over) or (sold != -1 and ends_at < over):
            connection.execute(
                "DELETE FROM channel_keys WHERE channel = ? AND start = ? AND sold = ?", (channel, start, sold)
            )
            changed = True
        elif sold == -1 and ends_at < over:
            chain = Chain(channel, start, period, position, bytes.fromhex(key))
            chain = chain.at(min(chain.index_at(over), position + MAX_STEPS))
            connection.execute(
                "UPDATE channel_keys SET position = ?, key = ? WHERE channel = ? AND start = ? AND sold = -1",
                (chain.index, chain.key.hex(), channel, start),
            )
            changed = True
    return changed


def accept_on(connection: sqlite3.Connection, id: str, own: str) -> Channel:
    """An invitation is accepted."""
    connection.execute("UPDATE channels SET state = 'joined' WHERE id = ?", (id,))
    found = channel_on(connection, id, own)
    assert found is not None
    return found


def forget_on(connection: sqlite3.Connection, id: str) -> None:
    """A channel, its keys and its members are forgotten."""
    connection.execute("DELETE FROM channels WHERE id = ?", (id,))
    connection.execute("DELETE FROM channel_places WHERE channel = ?", (id,))


def members_on(connection: sqlite3.Connection, id: str) -> list[str]:
    """Public keys of whom the owner invited."""
    return [
        pub for (pub,) in connection.execute("SELECT pub FROM channel_members WHERE channel = ? ORDER BY pub", (id,))
    ]


def add_member_on(connection: sqlite3.Connection, id: str, pub: str) -> None:
    """One more member. Raises InvalidInput beyond MAX_MEMBERS."""
    (count,) = connection.execute("SELECT count(*) FROM channel_members WHERE channel = ?", (id,)).fetchone()
    if count >= MAX_MEMBERS:
        raise InvalidInput(f"a channel has at most {MAX_MEMBERS} members")
    connection.execute(
        "INSERT INTO channel_members (channel, pub) VALUES (?, ?) ON CONFLICT (channel, pub) DO NOTHING", (id, pub)
    )


def untold_on(connection: sqlite3.Connection, id: str, version: int) -> list[str]:
    """Members who were not told of this version yet."""
    rows = connection.execute(
        "SELECT pub FROM channel_members WHERE channel = ? AND (told < ? OR NOT done) ORDER BY pub", (id, version)
    )
    return [pub for (pub,) in rows]


def told_at_on(connection: sqlite3.Connection, grant: Grant, pub: str, now: int) -> int:
    """The time (Unix seconds) that the letter with this version bears: that of its first try, while offices keep it."""
    connection.execute(
        "UPDATE channel_members SET told = ?, told_at = ?, done = 0"
        " WHERE channel = ? AND pub = ? AND (told <> ? OR told_at < ?)",
        (grant.version, now, grant.channel, pub, grant.version, now - KEEP + SKEW),
    )
    row = connection.execute(
        "SELECT told_at FROM channel_members WHERE channel = ? AND pub = ?", (grant.channel, pub)
    ).fetchone()
    return row[0] if row else now


def told_on(connection: sqlite3.Connection, grant: Grant, pub: str) -> None:
    """The office has the letter with this version."""
    connection.execute(
        "UPDATE channel_members SET done = 1 WHERE channel = ? AND pub = ? AND told = ?",
        (grant.channel, pub, grant.version),
    )


def places_on(connection: sqlite3.Connection, office: str, identity: str, only: str | None) -> dict[str, int]:
    """How far the feed of the office with this key was read: for each channel, and for letters that tell of them."""
    connection.execute("DELETE FROM channel_places WHERE office = ? AND identity NOT IN ('', ?)", (office, identity))
    rows = connection.execute("SELECT channel, last FROM channel_places WHERE office = ?", (office,))
    places = dict(rows.fetchall())
    joined = "SELECT id FROM channels WHERE state = 'joined' AND (? IS NULL OR id = ?)"
    ids = [CONTROL, *(id for (id,) in connection.execute(joined, (only, only)))]
    found = {id: places.get(id, 0) for id in ids}
    for id in ids:
        connection.execute(
            "INSERT INTO channel_places (channel, office, last, identity) VALUES (?, ?, 0, ?)"
            " ON CONFLICT (channel, office) DO NOTHING",
            (id, office, identity),
        )
    return found


def move_on(connection: sqlite3.Connection, office: str, places: Mapping[str, int], last: int) -> None:
    """For these channels everything up to `last` has been read, where their places are still those given."""
    for id, place in places.items():
        connection.execute(
            "UPDATE channel_places SET last = max(last, ?) WHERE office = ? AND channel = ? AND last = ?",
            (last, office, id, place),
        )


def end_on(connection: sqlite3.Connection, office: str, places: Mapping[str, int], now: int) -> None:
    """For these channels the feed has been read to its end, where their places are still those given."""
    for id, place in places.items():
        connection.execute(
            "UPDATE channel_places SET read_at = ? WHERE office = ? AND channel = ? AND last = ?",
            (now, office, id, place),
        )


def npub_of(pub: str) -> str:
    """The npub of a public key in hex."""
    return nip19.encode_npub(bytes.fromhex(pub))
