"""Stored events for a filter: one bounded SQL statement, read in steps that a slow reader can keep up with.

    Filter ─▶ Shape (which conditions) ─▶ statement, made once ─▶ rows: newest first, the lower id first
                                                ▲                   │
                                                └─ behind the last ◀┘      (no OFFSET)

REQ sends the rows (`read_step`), COUNT and negentropy look at them (`next_rows`): who may see what is decided here.

What leads is what narrows most: ids, then tags, then authors, then kinds, then time. Without ids, tags and authors
there are no gift wraps in the answer: the header feed is the list of those.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Connection,
    any_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from pennypost.protocol.event import KIND_GIFT_WRAP, parse_event
from pennypost_mint.runtime.glance import TooLong, is_glance
from pennypost_mint.runtime.limits import QUERY_ROWS, STEP_BYTES
from pennypost_postoffice.live import Watch, is_addressed_to
from pennypost_postoffice.rows import is_concealed, tag_key
from pennypost_postoffice.tables import events, tags


class Shape(NamedTuple):
    """What of a statement depends on the filter: the conditions it has, and the number of its tag letters."""

    dialect: str
    ids: bool
    authors: bool
    kinds: bool
    tags: int
    since: bool
    until: bool
    after: bool
    whole: bool
    glance: bool = False
    sizes: tuple[tuple[str, int], ...] = ()
    """Values of each list, where the statement names them one by one."""


FEW = 256
"""Values of one list up to which SQLite's statement is made once and kept, as text; SQLAlchemy renders longer lists
anew each time, and takes 100 of the 150 µs of a REQ for one event."""


NAMED = 16
"""Most values of all filters of a query that is read at a glance, so that it has as many statements at most."""

PLAIN = 3_900
"""Most bytes of JSON that SQLite keeps on the row's own page of 4,096. The rest of a longer one lies on pages that it
does not count as steps: a glance leaves such an event to a thread."""

TOO_LARGE = b""
"""In place of such an event's JSON."""


class Row(NamedTuple):
    """A stored event; its JSON as it is sent, None where it was not asked for."""

    created_at: int
    id: bytes
    kind: int
    body: bytes | None


@dataclass
class Query:
    """One query under way: which filter, how many of its events are wanted, and behind which the next step begins."""

    watches: list[Watch]
    private: bool
    """Gift wraps without a view tag go only to their authenticated receiver."""
    authenticated: Set[str]
    most: int
    """Events of a filter that has no limit."""
    whole: bool = True
    """Whether the JSON is wanted."""
    step: int = field(default_factory=lambda: QUERY_ROWS)
    """Most rows read at once; fewer are asked for after some that were large."""
    page: int = 0
    """Rows that the next statement asks for; 0 before the first."""
    size: int = 0
    """Bytes of JSON read so far."""
    position: int = 0
    left: int | None = None
    after: tuple[int, bytes] | None = None
    sent: set[str] = field(default_factory=set[str])
    rows: int = 0
    """Rows read so far, served or not: what the query cost."""

    @property
    def finished(self) -> bool:
        """Whether every filter has been read to its end or limit."""
        return self.position >= len(self.watches)

    def is_new(self, identifier: bytes) -> bool:
        """Whether no earlier filter brought this event; remembered for what is told live, and where filters overlap."""
        if not self.whole and len(self.watches) == 1:
            return True
        before = len(self.sent)
        self.sent.add(identifier.hex())
        return len(self.sent) > before


def names_few(watches: list[Watch]) -> bool:
    """Whether every filter is led by ids, tags or authors, few of them in all, so that few events are likely."""
    named = [len(watch.index_keys()) if watch.finds_wraps else 0 for watch in watches]
    return all(named) and sum(named) <= NAMED


def first_step(connection: Connection, new: Callable[[], Query], now: int) -> tuple[Query, list[str]]:
    """A query that begins here, and its first step; run a second time, it begins again."""
    query = new()
    return query, read_step(connection, query, now)


def read_step(connection: Connection, query: Query, now: int) -> list[str]:
    """The JSON of the next events of a `whole` query, as `next_rows` has them."""
    return [row.body.decode() for row in next_rows(connection, query, now) if row.body is not None]


def next_rows(connection: Connection, query: Query, now: int) -> list[Row]:
    """The next events, about `step` and STEP_BYTES at most; it may bring none although the query is not finished.

    An event that two filters want comes once. What has expired is not served, whether it is deleted yet or not.
    """
    found: list[Row] = []
    full = query.size + STEP_BYTES
    query.page = query.page or query.step
    while not query.finished and len(found) < query.page and query.size < full:
        watch = query.watches[query.position]
        if query.left is None:
            query.left = query.most if watch.wanted.limit is None else watch.wanted.limit
        wanted = min(query.left, query.page)
        given = _rows_on(connection, watch, query.after, wanted, now, query.whole) if wanted else []
        rows = _as_many(query, given, full)
        query.rows += len(rows)
        for row in rows:
            if query.after == (row.created_at, row.id):
                continue  # it has two of the tag values asked for
            query.after = (row.created_at, row.id)
            if _may_see(query, watch, row):
                query.left -= 1
                if query.is_new(row.id):
                    found.append(row)
        if (len(rows) < wanted and len(rows) == len(given)) or not query.left:
            query.position += 1
            query.left = query.after = None
        elif not found:
            break
    return found


def _as_many(query: Query, rows: list[Row], full: int) -> list[Row]:
    """The first of these rows, up to the one with which `full` bytes are reached; the rest is read again.

    So that this is rare, the next statement asks for as many as would be STEP_BYTES of these.
    """
    if total := sum(len(row.body or b"") for row in rows):
        query.page = max(1, min(query.step, STEP_BYTES * len(rows) // total))
    for number, row in enumerate(rows, 1):
        query.size += len(row.body or b"")
        if query.size >= full:
            return rows[:number]
    return rows


def _may_see(query: Query, watch: Watch, row: Row) -> bool:
    # the statement brings the JSON of gift wraps always
    if row.body is None or not is_concealed(row.kind, row.body):
        return True
    if not watch.names_receiver:
        return False
    return not query.private or is_addressed_to(parse_event(row.body), query.authenticated)


def _rows_on(
    connection: Connection, watch: Watch, after: tuple[int, bytes] | None, limit: int, now: int, whole: bool
) -> list[Row]:
    wanted = watch.wanted
    letters = sorted(wanted.tags, key=lambda letter: len(wanted.tags[letter]))
    shape = Shape(
        connection.dialect.name,
        wanted.ids is not None,
        wanted.authors is not None,
        wanted.kinds is not None,
        len(letters),
        wanted.since is not None,
        wanted.until is not None,
        after is not None,
        whole,
        is_glance(connection),
    )
    values: dict[str, Any] = {"now": now, "limit": limit, "since": wanted.since, "until": wanted.until}
    values["ids"] = [bytes.fromhex(each) for each in wanted.ids or ()]
    values["authors"] = [bytes.fromhex(each) for each in wanted.authors or ()]
    values["kinds"] = list(wanted.kinds or ())
    values |= {f"tag{n}": [tag_key(letter, each) for each in wanted.tags[letter]] for n, letter in enumerate(letters)}
    if after is not None:
        values["after_time"], values["after_id"] = after
    lists = [name for name in _names(shape) if isinstance(values[name], list)]
    if shape.dialect == "sqlite" and all(0 < len(values[name]) <= FEW for name in lists):
        rows = _few_on(connection, shape, values, lists)
    else:
        given = {name: values[name] for name in _names(shape)}
        rows = [Row(*row) for row in connection.execute(_statement(shape), given)]
    if shape.glance and any(row.body == TOO_LARGE for row in rows):
        raise TooLong
    return rows


def _few_on(connection: Connection, shape: Shape, values: dict[str, Any], lists: list[str]) -> list[Row]:
    """The rows on SQLite, by a text made once; lists are padded to a power of two, so that few are made."""
    sizes = tuple((name, 1 << (len(values[name]) - 1).bit_length()) for name in lists)
    text, order, fixed = _text(shape._replace(sizes=sizes))
    values |= fixed
    for name, size in sizes:
        found = values[name]
        values |= {f"{name}_{n}": found[min(n, len(found) - 1)] for n in range(size)}
    cursor: Any = connection.connection.cursor()
    return [Row(*row) for row in cursor.execute(text, [values[name] for name in order]).fetchall()]


@lru_cache(maxsize=1024)
def _text(shape: Shape) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """SQLite's text of a shape's statement, the names of its values in their order, and those that never change."""
    compiled: Any = _statement(shape).compile(dialect=sqlite.dialect())
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled), tuple(compiled.positiontup), fixed


def _names(shape: Shape) -> list[str]:
    names = ["now", "limit", *(f"tag{n}" for n in range(shape.tags))]
    names += [name for name in ("ids", "authors", "kinds", "since", "until") if getattr(shape, name)]
    return names + (["after_time", "after_id"] if shape.after else [])


@lru_cache(maxsize=1024)
def _statement(shape: Shape) -> Any:
    """The statement of a shape. The unary plus keeps SQLite from leading with an index that narrows less."""
    by_tag = shape.tags > 0 and not shape.ids
    time: Any = tags.c.created_at if by_tag else events.c.created_at
    identifier: Any = tags.c.event_id if by_tag else events.c.id
    body: Any = events.c.body
    if shape.glance:
        body = case((func.length(body) <= literal_column(str(PLAIN)), body), else_=literal_column("x''"))
    elif not shape.whole:
        body = case((events.c.kind == literal_column(str(KIND_GIFT_WRAP)), events.c.body))
    chosen: Any = select(time, identifier, events.c.kind, body)
    conditions: list[Any] = [_aside(shape, events.c.keep_until) > bindparam("now", type_=BigInteger)]
    if by_tag:
        chosen = chosen.select_from(tags.join(events, events.c.id == tags.c.event_id))
        conditions.append(_among(shape, tags.c.key, "tag0"))
    if shape.ids:
        conditions.append(_among(shape, events.c.id, "ids"))
    if shape.authors:
        leads = not shape.ids and not by_tag
        conditions.append(_among(shape, events.c.pubkey, "authors", leads))
    if shape.kinds:
        leads = not shape.ids and not by_tag and not shape.authors
        conditions.append(_among(shape, events.c.kind, "kinds", leads))
    if not shape.ids and not shape.authors and not shape.tags:
        conditions.append(events.c.kind != literal_column(str(KIND_GIFT_WRAP)))
    for number in range(1 if by_tag else 0, shape.tags):
        other = tags.alias()
        conditions.append(
            exists().where(
                _among(shape, other.c.key, f"tag{number}"),
                other.c.created_at == events.c.created_at,
                other.c.event_id == events.c.id,
            )
        )
    if shape.since:
        conditions.append(time >= bindparam("since", type_=BigInteger))
    if shape.until:
        conditions.append(time <= bindparam("until", type_=BigInteger))
    if shape.after:
        last = bindparam("after_time", type_=BigInteger)
        conditions += [time <= last, or_(time < last, identifier > bindparam("after_id", type_=events.c.id.type))]
    return chosen.where(*conditions).order_by(time.desc(), identifier).limit(bindparam("limit", type_=BigInteger))


def _among(shape: Shape, column: Column[Any], name: str, leads: bool = True) -> Any:
    if shape.dialect == "postgresql":
        return column == any_(bindparam(name, type_=ARRAY(column.type)))
    one = column if leads else _aside(shape, column)
    if shape.sizes:
        return one.in_([bindparam(f"{name}_{n}", type_=column.type) for n in range(dict(shape.sizes)[name])])
    return one.in_(bindparam(name, expanding=True, type_=column.type))


def _aside(shape: Shape, column: Column[Any]) -> Any:
    if shape.dialect != "sqlite":
        return column
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)
