"""Set-based statements on the caller's connection, for SQLite and PostgreSQL alike.

A statement a row costs PostgreSQL a round trip and SQLAlchemy ten times what SQLite needs; these take the whole
batch. PostgreSQL gets arrays (`unnest`, `= ANY`), so the text of a statement never changes with the size of the
batch; SQLite gets the compiled statement once and the rows through the driver. Values are always bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, Column, Connection, Table, UniqueConstraint, any_, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

Row = tuple[Any, ...]
Columns = tuple[str, ...]

ROWS = 64
"""Most rows of one INSERT on SQLite; a power of two, as the sizes below it, so that few statements are compiled. Each
statement lets go of the interpreter's lock and takes it again, and beside a busy event loop that is what costs."""

CHUNK = 256
"""Most values of one IN list on SQLite; lists are padded to a power of two so that few statements are compiled."""


def insert_ignore(
    connection: Connection, table: Table, columns: Columns, rows: Sequence[Row], returning: str, *, absent: bool = False
) -> set[Any]:
    """INSERT … ON CONFLICT DO NOTHING RETURNING, rows in the order given (sort them: that is the lock order).

    Returns the values of column `returning` of the rows that were inserted; the others met an existing key. `absent`:
    the caller's transaction has looked, and none of the keys was there nor is one given twice. On SQLite, with its one
    writer, that is still so; on PostgreSQL it says nothing.
    """
    if not rows:
        return set()
    if connection.dialect.name == "sqlite":
        if absent:
            insert_rows(connection, table, columns, rows)
            at = columns.index(returning)
            return {row[at] for row in rows}
        if _only_key(table) == returning:
            return _insert_fresh(connection, table, columns, rows, returning)
        cursor: Any = connection.connection.cursor()
        inserted: set[Any] = set()
        for size, values in _parts(rows):
            inserted.update(row[0] for row in cursor.execute(_sqlite_inserts(table, columns, returning, size), values))
        return inserted
    result = connection.execute(_postgresql_insert(table, columns, returning), _arrays(columns, rows))
    return {row[0] for row in result}


def insert_rows(connection: Connection, table: Table, columns: Columns, rows: Sequence[Row]) -> None:
    """INSERT all rows, in the order given; a key that exists raises sqlalchemy.exc.IntegrityError."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        for size, values in _parts(rows):
            # through SQLAlchemy, so that a violated key is its IntegrityError and not the driver's
            connection.exec_driver_sql(_sqlite_inserts(table, columns, None, size), tuple(values))
        return
    connection.execute(_postgresql_insert(table, columns, None), _arrays(columns, rows))


def _insert_fresh(connection: Connection, table: Table, columns: Columns, rows: Sequence[Row], key: str) -> set[Any]:
    """`insert_ignore` where one column is the only key: SQLite has one writer, so what is absent now stays absent.

    Rows that RETURNING hands back cost a step each, and with each step the interpreter's lock.
    """
    at = columns.index(key)
    fresh = {row[at]: row for row in reversed(rows)}
    for (existing,) in select_in(connection, table, (key,), key, list(fresh)):
        del fresh[existing]
    insert_rows(connection, table, columns, [row for row in rows if fresh.get(row[at]) is row])
    return set(fresh)


def _parts(rows: Sequence[Row]) -> Iterable[tuple[int, list[Any]]]:
    """The rows in parts of a power of two, the values of each in one list."""
    start = 0
    while start < len(rows):
        size = min(ROWS, 1 << ((len(rows) - start).bit_length() - 1))
        yield size, [value for row in rows[start : start + size] for value in row]
        start += size


def select_in(connection: Connection, table: Table, columns: Columns, key: str, values: Iterable[Any]) -> list[Row]:
    """Rows (`columns`) whose column `key` is one of `values`, in no order."""
    wanted = list(values)
    if not wanted:
        return []
    if connection.dialect.name == "sqlite":
        cursor: Any = connection.connection.cursor()
        found: list[Row] = []
        for statement, chunk in _sqlite_chunks(_sqlite_select, table, columns, key, wanted):
            found.extend(cursor.execute(statement, chunk).fetchall())
        return found
    result = connection.execute(_postgresql_select(table, columns, key), {"wanted": wanted})
    return [tuple(row) for row in result]


def delete_in(connection: Connection, table: Table, key: str, values: Iterable[Any]) -> None:
    """DELETE the rows whose column `key` is one of `values`."""
    wanted = list(values)
    if not wanted:
        return
    if connection.dialect.name == "sqlite":
        cursor: Any = connection.connection.cursor()
        for statement, chunk in _sqlite_chunks(_sqlite_delete, table, (), key, wanted):
            cursor.execute(statement, chunk)
        return
    connection.execute(_postgresql_delete(table, key), {"wanted": wanted})


def delete_rows(connection: Connection, table: Table, columns: Columns, rows: Sequence[Row]) -> None:
    """DELETE the rows whose `columns` together have these values."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        cursor: Any = connection.connection.cursor()
        cursor.executemany(_sqlite_delete_rows(table, columns), rows)
        return
    connection.execute(_postgresql_delete_rows(table, columns), _arrays(columns, rows))


def update_rows(connection: Connection, table: Table, key: str, columns: Columns, rows: Sequence[Row]) -> None:
    """UPDATE one row for each of `rows`, which hold the value of column `key`, then the values to set.

    On PostgreSQL the order in which rows are locked is not that of `rows`: lock them before.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        cursor: Any = connection.connection.cursor()
        cursor.executemany(_sqlite_update(table, key, columns), [(*row[1:], row[0]) for row in rows])
        return
    named = tuple(f"new_{name}" for name in (key, *columns))
    connection.execute(_postgresql_update(table, key, columns), _arrays(named, rows))


def _arrays(columns: Columns, rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)}


def _array(column: Column[Any], name: str) -> Any:
    return bindparam(name, type_=ARRAY(column.type))


@lru_cache(maxsize=128)
def _sqlite_inserts(table: Table, columns: Columns, returning: str | None, size: int) -> str:
    rows = [{name: bindparam(f"{name}{number}") for name in columns} for number in range(size)]
    statement: Any = sqlite.insert(table).values(rows)
    if returning is not None:
        statement = statement.on_conflict_do_nothing().returning(table.c[returning])
    return _in_order(statement, tuple(f"{name}{number}" for number in range(size) for name in columns))


@lru_cache(maxsize=128)
def _only_key(table: Table) -> str | None:
    """The column that alone decides whether a row meets an existing one; None for other tables."""
    keys = [constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    if keys or any(index.unique for index in table.indexes) or len(table.primary_key.columns) != 1:
        return None
    return table.primary_key.columns.values()[0].name


def _in_order(statement: Any, names: Columns) -> str:
    """The statement's text, for values in the order of `names`: the order of the table's columns, in each row."""
    compiled = statement.compile(dialect=sqlite.dialect())
    if tuple(compiled.positiontup or ()) != names:
        raise ValueError(f"columns not in the order of the table: {names}")
    return str(compiled)


@lru_cache(maxsize=128)
def _postgresql_insert(table: Table, columns: Columns, returning: str | None) -> Any:
    arrays = func.unnest(*(_array(table.c[name], name) for name in columns)).table_valued(*columns).render_derived()
    statement = postgresql.insert(table).from_select(list(columns), select(*(arrays.c[name] for name in columns)))
    if returning is None:
        return statement
    return statement.on_conflict_do_nothing().returning(table.c[returning])


@lru_cache(maxsize=128)
def _sqlite_select(table: Table, columns: Columns, key: str, size: int) -> str:
    chosen = select(*(table.c[name] for name in columns))
    return str(chosen.where(_among(table, key, size)).compile(dialect=sqlite.dialect()))


@lru_cache(maxsize=128)
def _sqlite_delete(table: Table, _columns: Columns, key: str, size: int) -> str:
    return str(delete(table).where(_among(table, key, size)).compile(dialect=sqlite.dialect()))


def _among(table: Table, key: str, size: int) -> Any:
    return table.c[key].in_([bindparam(f"v{number}", type_=table.c[key].type) for number in range(size)])


def _sqlite_chunks(make: Any, table: Table, columns: Columns, key: str, values: list[Any]) -> Iterable[tuple[str, Any]]:
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        size = 1 << (len(chunk) - 1).bit_length()
        yield make(table, columns, key, size), chunk + [chunk[-1]] * (size - len(chunk))


@lru_cache(maxsize=128)
def _sqlite_update(table: Table, key: str, columns: Columns) -> str:
    statement = update(table).values({name: bindparam(f"new_{name}") for name in columns})
    named = (*(f"new_{name}" for name in columns), "wanted")
    return _in_order(statement.where(table.c[key] == bindparam("wanted", type_=table.c[key].type)), named)


@lru_cache(maxsize=128)
def _postgresql_update(table: Table, key: str, columns: Columns) -> Any:
    named = (key, *columns)
    values = (_array(table.c[name], f"new_{name}") for name in named)
    arrays = func.unnest(*values).table_valued(*named).render_derived()
    return update(table).values({name: arrays.c[name] for name in columns}).where(table.c[key] == arrays.c[key])


@lru_cache(maxsize=128)
def _sqlite_delete_rows(table: Table, columns: Columns) -> str:
    named = [table.c[name] == bindparam(name, type_=table.c[name].type) for name in columns]
    return str(delete(table).where(*named).compile(dialect=sqlite.dialect()))


@lru_cache(maxsize=128)
def _postgresql_delete_rows(table: Table, columns: Columns) -> Any:
    arrays = func.unnest(*(_array(table.c[name], name) for name in columns)).table_valued(*columns).render_derived()
    return delete(table).where(*(table.c[name] == arrays.c[name] for name in columns))


@lru_cache(maxsize=128)
def _postgresql_select(table: Table, columns: Columns, key: str) -> Any:
    return select(*(table.c[name] for name in columns)).where(table.c[key] == any_(_array(table.c[key], "wanted")))


@lru_cache(maxsize=128)
def _postgresql_delete(table: Table, key: str) -> Any:
    return delete(table).where(table.c[key] == any_(_array(table.c[key], "wanted")))
