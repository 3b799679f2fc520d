"""The books: what came in over Lightning, what was given out, what is still in people's hands.

    settled    what invoices received               sold         issued against paid quotes
    unclaimed  paid, not yet issued                 promotional  given away by `mint issue`
    signed     all signatures ever made             spent        all proofs ever taken
    outstanding = signed - spent                    used = sold + promotional - outstanding: taken at post offices

A swap signs and spends the same, so it changes neither `outstanding` nor `used`. The books balance when

    settled - sold - unclaimed = 0          every sat received is a stamp, or waits for its buyer
    outstanding <= sold + promotional       nothing was signed that nobody paid for
    spent <= signed, of each keyset         nothing was taken that was not signed: else its key is known to somebody
    each quote's state fits its amounts
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, and_, func, not_, or_, select

from pennypost_mint.keysets import KeysetRow, standing_on
from pennypost_mint.quotes import State
from pennypost_mint.spend import DAY
from pennypost_mint.tables import mint_quotes, outputs, promotions, spent


class KeysetBook(NamedTuple):
    """One keyset; amounts in sat."""

    keyset: KeysetRow
    signed: int
    spent: int
    promotional: int

    @property
    def outstanding(self) -> int:
        """Sat of this keyset that nobody has spent."""
        return self.signed - self.spent


class DayBook(NamedTuple):
    """One Unix day; amounts in sat. What was settled and sold stands at the day its quote was made."""

    day: int
    settled: int
    sold: int
    promotional: int
    signed: int
    spent: int
    outstanding: int
    """At the end of the day."""


class Books(NamedTuple):
    """Everything, as of one moment; amounts in sat."""

    settled: int
    sold: int
    unclaimed: int
    promotional: int
    signed: int
    spent: int
    keysets: list[KeysetBook]
    days: list[DayBook]
    odd_quotes: int
    """Quotes whose state does not fit their amounts."""

    @property
    def outstanding(self) -> int:
        """Sat in people's hands."""
        return self.signed - self.spent

    @property
    def used(self) -> int:
        """Sat that post offices took, less their change."""
        return self.sold + self.promotional - self.outstanding

    @property
    def difference(self) -> int:
        """What was received and is neither sold nor waiting for its buyer: 0."""
        return self.settled - self.sold - self.unclaimed

    @property
    def faults(self) -> list[str]:
        """What does not balance, as sentences."""
        found: list[str] = []
        if self.difference:
            found.append(f"{self.difference} sat were received that are neither sold nor waiting for a buyer")
        if self.odd_quotes:
            found.append(f"{self.odd_quotes} quotes have a state that does not fit their amounts")
        if self.used < 0:
            found.append(f"{-self.used} sat were signed that nobody paid for")
        found += [
            f"of keyset {book.keyset.id} {-book.outstanding} sat more were spent than were signed"
            for book in self.keysets
            if book.outstanding < 0
        ]
        return found


TOTALS = ("settled", "sold", "unclaimed", "difference", "promotional", "signed", "spent", "outstanding", "used")


def report(books: Books, days: int = 0) -> dict[str, Any]:
    """The books as commands and pages show them: TOTALS in sat, `balanced` and `faults`, `keysets`, and of the `days`
    the last so many (0: all), with dates as YYYY-MM-DD."""
    listed = books.days[-days:] if days else books.days
    return {name: getattr(books, name) for name in TOTALS} | {
        "unit": "sat",
        "balanced": not books.faults,
        "faults": books.faults,
        "keysets": [
            {
                "id": book.keyset.id,
                "active": book.keyset.active,
                "final_expiry": book.keyset.final_expiry,
                "promotional": book.promotional,
                "signed": book.signed,
                "spent": book.spent,
                "outstanding": book.outstanding,
            }
            for book in books.keysets
        ],
        "days": [each._asdict() | {"day": _date(each.day)} for each in listed],
    }


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")


_q = mint_quotes.c
_FITS = or_(
    and_(_q.state.in_([State.UNPAID, State.LAPSED]), _q.amount_paid == 0, _q.amount_issued == 0),
    and_(_q.state == State.PAID, _q.amount_issued < _q.amount_paid, _q.amount_issued >= 0),
    and_(_q.state == State.ISSUED, _q.amount_issued == _q.amount_paid, _q.amount_paid > 0),
)


def books_on(connection: Connection) -> Books:
    """The books; reads every signature and every spent proof once. In one snapshot, or they cannot balance."""
    standing = standing_on(connection)
    signed = _sums_on(connection, outputs)
    taken = _sums_on(connection, spent)
    given = {
        (keyset, day): int(amount)
        for keyset, day, amount in connection.execute(
            select(
                promotions.c.keyset,
                (promotions.c.created_at // DAY).label("day"),
                func.sum(promotions.c.amount),
            ).group_by("keyset", "day")
        )
    }
    settled: Counter[int] = Counter()
    sold: Counter[int] = Counter()
    unclaimed = 0
    for day, state, paid, issued in connection.execute(
        select(
            (_q.created_at // DAY).label("day"), _q.state, func.sum(_q.amount_paid), func.sum(_q.amount_issued)
        ).group_by("day", "state")
    ):
        settled[day] += int(paid)
        sold[day] += int(issued)
        unclaimed += int(paid) - int(issued) if state == State.PAID else 0
    odd = connection.execute(select(func.count()).select_from(mint_quotes).where(not_(_FITS))).scalar_one()
    return Books(
        settled=settled.total(),
        sold=sold.total(),
        unclaimed=unclaimed,
        promotional=sum(given.values()),
        signed=sum(signed.values()),
        spent=sum(taken.values()),
        keysets=[
            KeysetBook(row, *(_of(sums, row.position) for sums in (signed, taken, given))) for row in standing.keysets
        ],
        days=_days(settled, sold, *(_by_day(sums) for sums in (given, signed, taken))),
        odd_quotes=odd,
    )


Sums = dict[tuple[int, int], int]
"""Sat by keyset position and Unix day."""


def _sums_on(connection: Connection, table: Table) -> Sums:
    columns = table.c
    found = connection.execute(
        select(columns.keyset, columns.day, func.sum(columns.amount)).group_by(columns.keyset, columns.day)
    )
    return {(keyset, day): int(amount) for keyset, day, amount in found}


def _of(sums: Sums, position: int) -> int:
    return sum(amount for (keyset, _), amount in sums.items() if keyset == position)


def _by_day(sums: Sums) -> Counter[int]:
    found: Counter[int] = Counter()
    for (_, day), amount in sums.items():
        found[day] += amount
    return found


def _days(
    settled: Counter[int], sold: Counter[int], given: Counter[int], signed: Counter[int], taken: Counter[int]
) -> list[DayBook]:
    outstanding = 0
    days: list[DayBook] = []
    for day in sorted({*settled, *sold, *given, *signed, *taken}):
        outstanding += signed[day] - taken[day]
        days.append(DayBook(day, settled[day], sold[day], given[day], signed[day], taken[day], outstanding))
    return days
