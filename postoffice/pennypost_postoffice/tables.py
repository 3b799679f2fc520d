"""The post office's tables. Stamps are taken in the mint's `spent`, in the same transaction.

Ids, keys and hashes are raw bytes. `keep_until` (Unix seconds) is a function of the event alone and stands in
every table that retention sweeps, so that each sweep is one indexed range.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
    true,
)

metadata = MetaData()

_NO_WRAP = text("kind <> 1059")

FREE = text("free_bytes IS NOT NULL")
UNPRICED = text("unpriced_bytes IS NOT NULL")
EARLY = text("NOT lasts")
OF_FREE = text("free_since IS NOT NULL")
"""Where the quotas of what no stamp paid look: SQLite takes a partial index only for a query with the same text."""

events = Table(
    "events",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("pubkey", LargeBinary(32), nullable=False),
    Column("kind", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("free_bytes", Integer, nullable=True),
    Column("unpriced_bytes", Integer, nullable=True),
    Index("events_author", "pubkey", "created_at"),
    Index("events_kind", "kind", "created_at", sqlite_where=_NO_WRAP, postgresql_where=_NO_WRAP),
    Index("events_time", "created_at", sqlite_where=_NO_WRAP, postgresql_where=_NO_WRAP),
    Index("events_free", "created_at", "free_bytes", sqlite_where=FREE, postgresql_where=FREE),
    Index("events_unpriced", "unpriced_bytes", sqlite_where=UNPRICED, postgresql_where=UNPRICED),
)
"""`body` is the event's JSON, byte for byte as it is sent. Gift wraps are found by id, author or tag alone: their
times are shifted at random, so each further index would cost a letter one more page of the disk. What has expired is
found by `feed.keep_until`, for every event has a row there. `free_bytes`: the size of a body that no stamp paid, which
is in the quota of free events; null for all others. `unpriced_bytes`: the same for one that a price rule asks nothing
for, which have a quota of their own."""

tags = Table(
    "tags",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("created_at", BigInteger, primary_key=True),
    Column("event_id", LargeBinary(32), primary_key=True),
    sqlite_with_rowid=False,
)
"""One-letter tags: `key` is the letter and the value (32 raw bytes where it is 64 hex digits, a hash where long)."""

addresses = Table(
    "addresses",
    metadata,
    Column("address", LargeBinary(32), primary_key=True),
    Column("event_id", LargeBinary(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Index("addresses_keep_until", "keep_until"),
    sqlite_with_rowid=False,
)
"""The current event of each replaceable address: SHA-256 of `kind:pubkey:d`."""

tombstones = Table(
    "tombstones",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("pubkey", LargeBinary(32), primary_key=True),
    Column("keep_until", BigInteger, nullable=False),
    Column("lasts", Boolean, nullable=False, server_default=true()),
    Index("tombstones_keep_until", "keep_until"),
    Column("free_since", BigInteger, nullable=True),
    Index("tombstones_early", "keep_until", sqlite_where=EARLY, postgresql_where=EARLY),
    Index("tombstones_free", "free_since", sqlite_where=OF_FREE, postgresql_where=OF_FREE),
    sqlite_with_rowid=False,
)
"""Ids once deleted (NIP-09), and by whose right: they stay out until keep_until. A deletion may arrive before its
target, so anyone can name any id; only that of the event's own author (or a wrap's receiver) counts. `lasts` is false
for an id that was not stored when a free deletion named it: those share a quota. `free_since`: when the event was
made (Unix seconds), where it was in the quota of free events; such tombstones have one, too."""

address_tombstones = Table(
    "address_tombstones",
    metadata,
    Column("address", LargeBinary(32), primary_key=True),
    Column("deleted_at", BigInteger, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Column("lasts", Boolean, nullable=False, server_default=true()),
    Index("address_tombstones_keep_until", "keep_until"),
    Column("free_since", BigInteger, nullable=True),
    Index("address_tombstones_early", "keep_until", sqlite_where=EARLY, postgresql_where=EARLY),
    Index("address_tombstones_free", "free_since", sqlite_where=OF_FREE, postgresql_where=OF_FREE),
    sqlite_with_rowid=False,
)
"""Addresses deleted by an `a` tag: versions up to `deleted_at` stay out. `lasts` and `free_since` as above."""

feed = Table(
    "feed",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", LargeBinary(32), nullable=False),
    Column("record", LargeBinary(40), nullable=True),
    Column("keep_until", BigInteger, nullable=False),
    Index("feed_keep_until", "keep_until"),
    Index(
        "feed_shown",
        "seq",
        sqlite_where=text("record IS NOT NULL"),
        postgresql_where=text("record IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)
"""One number for every stored event, in the order of commits; `record` only where the header feed shows it. The row of
a held event names no event (`rows.held_name`); its release adds one that does. An event's row is found by its
keep_until, which few share: an index by id, a random key, costs 5 of 116 µs of the commit."""

feed_head = Table(
    "feed_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("burials", BigInteger, nullable=False, server_default="0"),
)
"""One row (id 1). Updating it is the last step of a commit and its lock: numbers become visible in order. `burials`
counts the transactions that made tombstones, so that one beside them notices."""

vanished = Table(
    "vanished",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("had_mail", Boolean, nullable=False),
    Index("vanished_oldest", "had_mail", "until"),
    sqlite_with_rowid=False,
)
"""Who vanished (NIP-62): a hash of the public key, never the key. What it signed up to `until`, and gift wraps to it,
stay out. `had_mail`: something was stored here; the others share a quota."""

vanishing = Table(
    "vanishing",
    metadata,
    Column("pubkey", LargeBinary(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Requests to vanish whose deletion is under way; a row is gone with the last of what it deletes."""

holds = Table(
    "holds",
    metadata,
    Column("hold", LargeBinary(32), primary_key=True),
    Column("released", Boolean, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Index("holds_keep_until", "keep_until"),
    sqlite_with_rowid=False,
)
"""Hold tags, and whether they are released; remembered as long as the last event under them is kept. Whoever holds or
releases takes the row first, so the two meet here."""

held = Table(
    "held",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("hold", LargeBinary(32), nullable=False),
    Column("pubkey", LargeBinary(32), nullable=False),
    Column("kind", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("unpriced_bytes", Integer, nullable=True),
    Index("held_hold", "hold"),
    Index("held_author", "pubkey"),
    Index("held_keep_until", "keep_until"),
    Index("held_unpriced", "unpriced_bytes", sqlite_where=UNPRICED, postgresql_where=UNPRICED),
)
"""Events that nobody is served before their release, when they move to `events`: they are in no table that is read."""

held_receivers = Table(
    "held_receivers",
    metadata,
    Column("receiver", LargeBinary(32), primary_key=True),
    Column("event_id", LargeBinary(32), primary_key=True),
    sqlite_with_rowid=False,
)
"""Keys that held gift wraps are addressed to, for a request to vanish (NIP-62)."""

postmarks = Table(
    "postmarks",
    metadata,
    Column("event_id", LargeBinary(32), primary_key=True),
    Column("stored_at", BigInteger, nullable=False),
    Column("sat", BigInteger, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Index("postmarks_keep_until", "keep_until"),
    sqlite_with_rowid=False,
)
"""What a postmark says of an event that asked for one when it was stored, so that a repeat gets the same one."""

bans = Table(
    "bans",
    metadata,
    Column("subject", String(8), primary_key=True),
    Column("value", LargeBinary(32), primary_key=True),
    Column("reason", String(256), nullable=False),
    Column("since", BigInteger, nullable=False),
)
"""What the operator does not take: `subject` is `pubkey`, `event` (both 32 bytes) or `kind` (2 bytes)."""

office_state = Table(
    "office_state",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(1024), nullable=False),
)
"""What all processes of one office share beside mail: marks that change when something has to be read again, and what
the operator set while it ran."""

price_lists = Table(
    "price_lists",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("rules", Text, nullable=False),
    Column("ended_at", BigInteger, nullable=True),
)
"""Prices asked now (`ended_at` is null) and lately: what was read of them is honoured for a while. `rules` is the price
file as JSON, `digest` its SHA-256, `ended_at` the Unix time since which others are asked."""

tallies = Table(
    "tallies",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("subject", String(8), primary_key=True),
    Column("label", String(32), primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("sat", BigInteger, nullable=False),
)
"""Sums by day (Unix days) for the operator: `stored` by kind, `refused` by code. Nobody can be told from them."""

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("purpose", String(8), nullable=False),
    Column("pubkey", LargeBinary(32), nullable=True),
    Column("until", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Links for one sign-in to the operator's pages (`purpose` is `link`) and sessions there (`session`): SHA-256 of the
secret, never the secret. `pubkey`: the operator's key where a session was begun by NIP-98."""

signed_requests = Table(
    "signed_requests",
    metadata,
    Column("event_id", LargeBinary(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Requests that an operator signed (NIP-98) and that were carried out: until then (Unix seconds) no process takes them
again."""

price_edits = Table(
    "price_edits",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("toml", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)
"""Price lists that the operator set while the office ran; the last goes before the price file, unless it is empty."""

samples = Table(
    "samples",
    metadata,
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("process", LargeBinary(8), primary_key=True),
    Column("seconds", Integer, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("sat", BigInteger, nullable=False),
    Column("answers", BigInteger, nullable=False),
    Column("answer_us", BigInteger, nullable=False),
    Column("slow_us", BigInteger, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("connections", Integer, nullable=False),
    Column("lightning", Integer, nullable=True),
    Column("bytes", BigInteger, nullable=False),
    Column("reasons", Text, nullable=False, server_default="{}"),
    Column("kept_until", BigInteger, nullable=True),
    sqlite_with_rowid=False,
)
"""How each process of the office did in the `seconds` before `at` (Unix seconds): events stored, refused and their sat;
answers, the microseconds that all of them took, and what nineteen of twenty took at most; events waiting, connections,
whether Lightning answered (1, 0, null where there is none), bytes of the database; the refused ones by code (JSON),
until when the last of the mail is kept (Unix seconds). Two days of them are kept."""

foreign_journal = Table(
    "foreign_journal",
    metadata,
    Column("event_id", LargeBinary(32), primary_key=True),
    Column("mint", String(512), nullable=False),
    Column("body", LargeBinary, nullable=True),
    Column("keyset", String(66), nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("amounts", String(512), nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
)
"""Events whose stamps of a mint elsewhere are being swapped: nothing else stores such an event. The outputs follow from
the office's seed: number `counter` and on of a keyset of the mint, with these `amounts` (sat, decimal, commas). Without
a `body` (the event's JSON) the treasury changes proofs of its own, and the id is random. `asked_at` (milliseconds)
rises with each request to the mint, so that nobody ends what another process just asked for."""

foreign_inputs = Table(
    "foreign_inputs",
    metadata,
    Column("y", LargeBinary(33), primary_key=True),
    Column("event_id", LargeBinary(32), nullable=False),
    Column("keyset", String(66), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("secret", String(1024), nullable=False),
    Column("c", LargeBinary(33), nullable=False),
    Index("foreign_inputs_event", "event_id"),
    sqlite_with_rowid=False,
)
"""The stamps of the journal's events. They are as good as money until the swap: a row goes with that of its event."""

foreign_closed = Table(
    "foreign_closed",
    metadata,
    Column("event_id", LargeBinary(32), primary_key=True),
    Column("stamps", LargeBinary(32), primary_key=True),
    Column("mint", String(512), nullable=False),
    Column("keyset", String(66), nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("amounts", String(512), nullable=False),
    Column("letter", Boolean, nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger, nullable=False),
    Column("reason", String(256), nullable=False),
    Column("collected", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""Rows of the journal that the operator closed while nobody could say what became of them. `stamps`: a hash of their
Ys. The same event with the same stamps goes on with the outputs written here; no secret and no body is. `letter`: not a
change of the treasury's own. `collected`: the proofs were found since, and are in the treasury or were."""

treasury = Table(
    "treasury",
    metadata,
    Column("y", LargeBinary(33), primary_key=True),
    Column("mint", String(512), nullable=False),
    Column("keyset", String(66), nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("c", LargeBinary(33), nullable=False),
    Column("day", Integer, nullable=False),
    Column("sweep", BigInteger, nullable=True),
    Index("treasury_mint", "mint", "sweep"),
    sqlite_with_rowid=False,
)
"""Proofs of mints elsewhere that this office earned. Their secrets follow from the office's seed by `counter`: whoever
reads the database cannot spend them. `sweep`: number of the token they went into."""

treasury_counters = Table(
    "treasury_counters",
    metadata,
    Column("keyset", String(66), primary_key=True),
    Column("mint", String(512), nullable=False),
    Column("next", BigInteger, nullable=False),
)
"""The next output never used of each keyset of a mint elsewhere."""
