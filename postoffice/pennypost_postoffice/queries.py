"""Questions about what is stored: REQ (NIP-01) and COUNT (NIP-45), each read in steps behind the connection's bounds.

    REQ ─▶ ask ─▶ subscription ─▶ rows, sent as they come ─▶ EOSE ─▶ live          COUNT ─▶ rows, counted ─▶ COUNT
            └─ refused: CLOSED

Both see the same events: `store.Query` decides what a reader may see. A COUNT is exact, or it is refused.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pennypost.protocol.errors import (
    AuthRequired,
    InvalidFilter,
    NotReceiver,
    PennypostError,
    QueryTooLarge,
    TooManySubscriptions,
)
from pennypost.protocol.event import KIND_GIFT_WRAP
from pennypost.protocol.filter import Filter, FilterBounds, parse_filter
from pennypost.protocol.frames import CountFrame, ReqFrame, closed_message, count_message, eose_message
from pennypost_mint.runtime.limits import (
    COUNT_STEP,
    KIB,
    MAX_FILTER_VALUES,
)
from pennypost_postoffice.live import Subscription, Watch
from pennypost_postoffice.store import Query, first_step, names_few, next_rows, read_step

if TYPE_CHECKING:
    from pennypost_postoffice.connection import Connection

# What work costs, in CPU microseconds: a filter that finds nothing (190 to 240) and a row of a COUNT (6 to 7) as
# `python -m tests.bench.costs` measured them, the others by the profile in docs/reference/performance.md.
COST_FILTER = 200
COST_VALUE = 2
COST_ROW = 15
COST_KIB = 4
COST_COUNTED = 6


def read_filters(connection: Connection, given: tuple[object, ...], limit: int | None = None) -> tuple[Filter, ...]:
    """The filters of one query, their `limit` at most PENNYPOST_MAX_LIMIT unless another is given.

    Raises InvalidFilter, AuthRequired or NotReceiver.
    """
    settings = connection.office.settings
    if not 0 < len(given) <= settings.max_filters:
        raise InvalidFilter(f"a query has 1 to {settings.max_filters} filters")
    bounds = FilterBounds(authors=MAX_FILTER_VALUES, tag_values=MAX_FILTER_VALUES, limit=limit or settings.max_limit)
    filters = tuple(parse_filter(each, bounds) for each in given)
    if connection.private:
        for wanted in filters:
            _check_receiver(wanted, connection.authenticated)
    return filters


def receivers_asked_for(wanted: Filter) -> set[str]:
    """Whose gift wraps a filter asks for: kind 1059 by `#p` alone, as mail is fetched; empty for other filters."""
    by_receiver = wanted.ids is None and wanted.authors is None and KIND_GIFT_WRAP in (wanted.kinds or ())
    return set(wanted.tags.get("p", ())) if by_receiver else set()


def _check_receiver(wanted: Filter, authenticated: set[str]) -> None:
    """Who asks for the gift wraps of others alone is told so (NIP-42); other filters just do not find them."""
    receivers = receivers_asked_for(wanted)
    if receivers and receivers.isdisjoint(authenticated):
        raise NotReceiver if authenticated else AuthRequired


def charge_for(connection: Connection, watches: list[Watch]) -> None:
    """What filters cost before the first row."""
    values = sum(len(watch.index_keys()) for watch in watches)
    connection.charge(COST_FILTER * len(watches) + COST_VALUE * values)


def req(connection: Connection, frame: ReqFrame) -> None:
    """A REQ: from now on live, stored events as soon as it is its turn."""
    name, most = frame.subscription, connection.office.settings.max_subscriptions
    try:
        if name not in connection.subscriptions and len(connection.subscriptions) >= most:
            raise TooManySubscriptions
        filters = read_filters(connection, frame.filters)
    except PennypostError as error:
        connection.close_subscription(name)
        connection.refuse_query(closed_message(name, error.nip01()))
        return
    connection.close_subscription(name)
    subscription = Subscription(connection, name, filters)
    connection.open_subscription(subscription)
    charge_for(connection, subscription.watches)
    connection.ask(partial(_serve_stored, connection, subscription), partial(_end, connection, subscription))


async def _serve_stored(connection: Connection, subscription: Subscription) -> None:
    office = connection.office
    most = office.settings.max_limit
    new = partial(Query, subscription.watches, connection.private, connection.authenticated, most=most)
    read = office.database.read_short if names_few(subscription.watches) else office.database.read
    query, bodies = await read(first_step, new, office.now())
    before = size = 0
    while not subscription.closed:
        for body in bodies:
            connection.send(subscription.frame(body))
        connection.charge(COST_ROW * (query.rows - before) + COST_KIB * (query.size - size) / KIB)
        await connection.drain()
        if query.finished or subscription.closed:
            break
        before, size = query.rows, query.size
        bodies = await office.database.read(read_step, query, office.now())
    if not subscription.closed:
        connection.send(eose_message(subscription.name))
        while not subscription.caught_up(query.sent):
            await connection.drain()
            if subscription.closed:
                return
        office.follower.settles(subscription)


def _end(connection: Connection, subscription: Subscription, error: PennypostError) -> None:
    if not subscription.closed:
        connection.close_subscription(subscription.name)
        connection.send(closed_message(subscription.name, error.nip01()))


def count(connection: Connection, frame: CountFrame) -> None:
    """A COUNT; its name is apart from those of subscriptions. A `limit` bounds what a REQ sends and plays no part."""
    try:
        filters = read_filters(connection, frame.filters)
    except PennypostError as error:
        connection.refuse_query(closed_message(frame.query, error.nip01()))
        return
    watches = [Watch(msgspec.structs.replace(wanted, limit=None)) for wanted in filters]
    charge_for(connection, watches)
    connection.ask(partial(_count, connection, frame.query, watches), partial(_uncounted, connection, frame.query))


async def _count(connection: Connection, name: str, watches: list[Watch]) -> None:
    """Raises QueryTooLarge."""
    office = connection.office
    most = office.settings.max_count
    query = Query(watches, connection.private, connection.authenticated, whole=False, most=most + 1, step=COUNT_STEP)
    found = 0
    while not query.finished:
        before = query.rows
        found += len(await office.database.read(next_rows, query, office.now()))
        connection.charge(COST_COUNTED * (query.rows - before))
        if query.rows > most:
            raise QueryTooLarge(f"more than {most}")
        await connection.drain()
    connection.send(count_message(name, found))


def _uncounted(connection: Connection, name: str, error: PennypostError) -> None:
    connection.send(closed_message(name, error.nip01()))
