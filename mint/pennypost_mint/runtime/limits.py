"""Bounds on what a stranger sends: the real value, and what breaks beyond it. What operators set: settings.py."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

KIB = 1024

MAX_BODY = 1024 * KIB
"""Bytes of an HTTP body. A swap of 1,000 inputs and outputs needs about 450 KiB."""

MAX_HEAD = 64 * KIB
"""Bytes of the head of an HTTP request. A token of 100 proofs in X-Cashu needs some 30 KiB."""

REQUEST_SECONDS = 60.0
"""Longest time that a whole HTTP request may take to arrive, and that a connection may wait for its first."""

PIPELINED = 64
"""HTTP requests of one connection that came before the one in front of them was answered; each takes some 9 KiB."""

TURN = 0.005
"""Seconds that what one connection sent at once may take; past it others have their turn before more of it is read."""

TAKE_BYTES = 64 * KIB
TAKE_SECONDS = 60.0
"""What a client must take of an answer over HTTP in that time while it waits for him; a slower one is cut off."""

MAX_ITEMS = 1_000
"""Inputs, outputs and Ys of one mint request (announced as max_array_length)."""

MAX_FRAME = 256 * KIB
"""Bytes of a WebSocket frame, unless set. Keychat merges 1,500 keys into one REQ of 98 KiB."""

MAX_EVENT = 128 * KIB
"""Bytes of an event's NIP-01 serialisation, unless set. A NIP-44 text of 64 KiB needs 88 KiB."""

MOST_EVENT = 512 * KIB
"""Largest PENNYPOST_MAX_EVENT."""

MAX_SUBSCRIPTIONS = 200
"""A connection; Keychat opens well over 20."""

MAX_FILTERS = 20
"""Of one subscription, unless set."""

MAX_FILTER_VALUES = 5_000
"""Values of all lists of one filter."""

MAX_LIMIT = 5_000
"""Events of one stored query, unless set; also its default."""

MAX_PROOFS = 100
"""Proofs of one stamp, unless set."""

MAX_CHANGE = 64
MOST_CHANGE = 256
"""Blank outputs of one event, unless set, and the largest PENNYPOST_MAX_CHANGE."""

IN_FLIGHT = 512
"""Events of one connection without an answer; past it the connection is not read until one is answered."""

OUTGOING = 8 * 1024 * KIB
"""Bytes waiting for one reader; past it he has OUTGOING_SECONDS to take what is above, then he is too slow."""

OUTGOING_SECONDS = 10.0

OUTGOING_MOST = 40 * 1024 * KIB
"""Past it the connection is closed at once: a commit that meets two of its subscriptions, beside OUTGOING."""

STEP_BYTES = 1024 * KIB
"""Of JSON that is read, sent or published at once; then sockets are written to. One event may be larger."""

VERIFY_QUEUE = 20_000
COMMIT_QUEUE = 20_000
"""Events waiting for a stage in the whole process; past it connections are not read."""

IN_FLIGHT_BYTES = 128 * 1024 * KIB
"""Of the same events, as JSON; they take some three times that. 20,000 letters are 30 MiB, of the largest 2.5 GiB."""

FEED_PAGE = 5_000
"""Most header records of one answer (220 KB)."""

FEED_WAIT = 60
"""Longest wait of a long poll, seconds."""

PAGE = 64
"""Feed numbers of one page."""

HELD_BACK = 60
"""Seconds an event waits for a database that is away before it is answered with an error."""

CPU_RATE = 200_000
CPU_BURST = 2_000_000
"""Microseconds of work a connection may cause each second, and at once; past it it is read more slowly. What a stamp
paid for is not counted."""

LITTLE_CPU = 50_000
"""What a connection may have taken lately and still not wait for others of its source."""

FLOOR_RATE = 5.0
FLOOR_BURST = 50.0
"""HTTP reads of a source that took more than its share while CPU is scarce: each second, and at once. One reader of the
feed sends one a second or fewer."""

FEED_READS = 2_000
"""Reads over HTTP that wait for the database at once; past it the answer is 503."""

ODD_RATE = 200.0
ODD_BURST = 2_000
ODD_REST = 1.0
"""WebSocket frames of one connection that are no plain text (pings, fragments, very large ones), each second and at
once, and the seconds for which it is not read past that. Each takes some 15 µs of the event loop."""

FRAGMENTS = 1_024
"""Of one WebSocket message; past it the connection is closed."""

AUTH_KEYS = 16
"""Keys that may answer the challenge of one connection; each costs a signature to check, and what is private is held
against all of them."""

RELEASES_AT_ONCE = 32
RELEASES_WAITING = 1_000
"""Releases over HTTP that are at the database, and those that wait for that; past it one is answered with 503, of the
source that has most."""

EVENTS_WAITING = 1_000
"""Events over HTTP that wait while the office is full, each with its body; past it the same."""

EPHEMERAL_SECONDS = 10
FREE_SECONDS = 25
"""Seconds for which a connection may save up its rate of ephemeral and of free stored events, and send them at once."""

HELD_EVENTS = 100
"""Events held under one hold tag: so many move in one transaction when it is released."""

RELEASE_RATE = 5.0
RELEASE_BURST = 200.0
"""Releases of one source with a wrong preimage: each second, and at once."""

SIGN_IN_RATE = 0.2
SIGN_IN_BURST = 20.0
"""Tries of one source to sign in to the operator's pages: each second, and at once."""

HOLD_RATE = 0.2
HOLD_BURST = 20.0
"""Wrong tries at one hold tag. The right preimage opens it all the same: 256 bits cannot be tried through."""

RECENT = 16_384
"""Event ids and stamps remembered, so that a repeat is looked up before any crypto."""

VERIFY_BATCH = 128
COMMIT_BATCH = 1_024
COMMIT_BYTES = 16 * 1024 * KIB
"""Most events handed to a process at once, and most events and bytes of one transaction."""

FOREIGN_WAITING = 1_000
"""Events that wait for one mint elsewhere; past it they are told to come again, so that a mint that is slow does not
fill the room of everyone."""

FOREIGN_ROWS = 256
"""Rows of the journal of one mint elsewhere; past it no swap is begun until one is over."""

FOREIGN_AT_ONCE = 12
"""Events that one mint elsewhere is asked for at once."""

WRITE = 64 * KIB
"""Bytes of one write to a socket."""

QUERIES = 64
"""REQs of one connection that wait for their stored events; past it the connection is not read."""

QUERY_ROWS = 100
"""Stored events read at once for a REQ; the rest follows when the reader has taken these."""

VANISHED_ROWS = 1_000_000
"""Hashes kept of keys that asked to vanish and had nothing here, 80 bytes each; those that had something are kept."""

COUNT_ROWS = 100_000
"""Stored events that a COUNT looks at, unless set; past it it is refused. They cost 0.5 s of the connection's CPU."""

SYNC_RECORDS = 100_000
"""Events of one negentropy session, 41 bytes each while it lasts, unless set; past it it is refused."""

SYNC_TOTAL = 1_000_000
"""Of all sessions of a process, unless set; while they are read from the database they take some 150 bytes each."""

SYNCS = 8
"""Sessions of one connection."""

SYNC_IDLE = 60.0
"""Seconds a session may be silent."""

SYNC_MESSAGE = 60_000
"""Bytes of one of our messages, twice that in hex; what does not fit is put off to the next."""

COUNT_STEP = 1_000
"""Of these, read at once."""

HELD_LIVE = 1_000
"""New events kept for a subscription whose stored ones are still being sent."""

FORMER_PRICES = 8
"""Price lists of before that are honoured at once."""

MAX_BANS = 100_000
"""Bans of one office; each process keeps all of them, some 200 bytes each."""

BUS_BYTES = 16 * 1024 * KIB
"""Ephemeral events waiting for the bus; past it they reach the subscribers of their own process alone."""


MAX_WEBSOCKETS = 5_000
"""Wallets that listen to the mint at once (NUT-17)."""

WEBSOCKETS_OF_SOURCE = 1_000
"""Of these, most of one source: what many wallets behind one address need, and a fifth of all."""

MAX_WATCHED = 100_000
"""Quotes and proofs that all of them watch together, each costing some 500 bytes."""

WATCHED_OF_CONNECTION = 5_000

WALLET_OUTGOING = 4 * 1024 * KIB
"""Bytes waiting for one of them; the states of 5,000 quotes are some 3.5 MB."""

WALLET_FRAMES_RATE = 20.0
WALLET_FRAMES_BURST = 400.0
"""Frames of one wallet, each second and at once; past it it is read more slowly."""

WALLET_IDLE = 60.0
"""Seconds a wallet may stay connected without a subscription."""

QUOTE_COST = 25.0
"""Units that a new quote takes from its source's bucket (PENNYPOST_RATE_LIMIT): it makes the Lightning node work and
leaves a row. Every other request costs 1, and 1 for each KiB of its body."""

MAX_SOURCES = 50_000
"""Sources whose buckets are remembered, some 300 bytes each."""

MAX_FORWARDED = 1_024
"""Bytes of X-Forwarded-For that are looked at, from its end."""


class TokenBucket:
    """Allows `rate` units a second with bursts up to `burst`, for each of the `keys` seen last."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float], keys: int = 10_000) -> None:
        self._rate, self._burst, self._clock, self._keys = rate, burst, clock, keys
        self._levels: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, key: object, cost: float = 1.0) -> bool:
        """Whether `key` may spend `cost` now; a refusal costs nothing."""
        now = self._clock()
        level, then = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        allowed = level >= cost
        self._levels[key] = (level - cost if allowed else level, now)
        if len(self._levels) > self._keys:
            self._levels.popitem(last=False)
        return allowed

    def wait(self, key: object, cost: float = 1.0) -> float:
        """Seconds until `key` may spend `cost`; 0 when it may now. Not for a cost above the burst."""
        level, then = self._levels.get(key, (self._burst, 0.0))
        return max(0.0, (cost - level) / self._rate - (self._clock() - then))
