"""Weeks of an office that nobody ever used, as rows: money, letters, refusals, bans. For pictures and looks."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from hashlib import sha256

from sqlalchemy import Connection, Table, delete, insert, select

from pennypost_mint.tables import keysets, mint_quotes, outputs, spent
from pennypost_postoffice.samples import EVERY
from pennypost_postoffice.tables import bans, samples, tallies, treasury

DAY = 86_400
DAYS = 35
STORED = {1059: 41_000, 1: 900, 30_023: 14, 10_002: 400}
REFUSED = {
    "stamp-spent": 310,
    "stamp-required": 140,
    "rate-limited": 120,
    "stamp-too-little": 60,
    "signature": 22,
    "stamp-keyset": 17,
    "banned": 9,
}
"""Events of a day, by kind and by code."""


def fill_on(connection: Connection, now: int) -> None:
    """Fills the tables of a new office, whose books balance, up to Unix time `now`; the same for the same time."""
    chance = random.Random(7)
    keyset = connection.execute(select(keysets.c.position).where(keysets.c.active)).scalar_one()
    _money(connection, chance, keyset, now)
    _purchases(connection, chance, now)
    # in place of what the office counted meanwhile
    for counted in (samples, tallies):
        connection.execute(delete(counted))
    _add(connection, samples, _samples(chance, now))
    _add(connection, tallies, _tallies(chance, now // DAY))
    _add(connection, bans, _bans(chance, now))
    _add(connection, treasury, _treasury(chance, now // DAY))


def _add(connection: Connection, table: Table, rows: Iterable[dict[str, object]]) -> None:
    connection.execute(insert(table), list(rows))


def _money(connection: Connection, chance: random.Random, keyset: int, now: int) -> None:
    """Stamps sold and spent each day, each purchase issued whole."""
    bought: list[dict[str, object]] = []
    signed: list[dict[str, object]] = []
    used: list[dict[str, object]] = []
    for day in range(now // DAY - DAYS + 1, now // DAY + 1):
        sold = 0
        for number in range(8):
            amount = chance.choice((10, 100, 100, 1_000, 1_000, 2_500))
            at = min(now - 4_000, day * DAY + 3_600 * number)
            sold += amount
            bought.append(_quote(chance, amount, at, "ISSUED", amount, amount))
            signed.append(
                {
                    "b": chance.randbytes(33),
                    "keyset": keyset,
                    "amount": amount,
                    "c": chance.randbytes(33),
                    "e": chance.randbytes(32),
                    "s": chance.randbytes(32),
                    "day": day,
                }
            )
        amount = int(sold * chance.uniform(0.6, 0.95))
        used.append({"y": chance.randbytes(33), "keyset": keyset, "amount": amount, "day": day, "witness": None})
    _add(connection, mint_quotes, bought)
    _add(connection, outputs, signed)
    _add(connection, spent, used)


def _quote(
    chance: random.Random, amount: int, at: int, state: str, paid: int = 0, issued: int = 0
) -> dict[str, object]:
    name = chance.randbytes(16).hex()
    return {
        "id": name,
        "unit": "sat",
        "amount": amount,
        "request": f"lnbc{name}",
        "payment_hash": sha256(name.encode()).digest(),
        "pubkey": None,
        "state": state,
        "amount_paid": paid,
        "amount_issued": issued,
        "created_at": at,
        "expiry": at + 3_600,
        "updated_at": at,
    }


def _purchases(connection: Connection, chance: random.Random, now: int) -> None:
    """Some that wait, one that was paid and not taken yet, some that lapsed."""
    waiting = [_quote(chance, amount, now - 400 * at - 30, "UNPAID") for at, amount in enumerate((100, 1_000, 10, 250))]
    lapsed = [_quote(chance, 100, now - DAY * at, "LAPSED") for at in (1, 2)]
    _add(connection, mint_quotes, [*waiting, _quote(chance, 21, now - 900, "PAID", 21), *lapsed])


def _samples(chance: random.Random, now: int) -> Iterable[dict[str, object]]:
    """Two processes over two days: busier by day, a flood of refusals once, a pause where both were down."""
    processes = [chance.randbytes(8) for _ in range(2)]
    for at in range(now - now % EVERY - 2 * DAY + EVERY, now, EVERY):
        part = (at % DAY) / DAY
        ago = now - at
        if 62_000 < ago < 64_500:
            continue
        for process in processes:
            load = 6 + 5 * math.sin(2 * math.pi * (part - 0.3)) + chance.random() * 1.5
            stored = max(0, round(load * 15 + chance.gauss(0, 6)))
            reasons = {code: max(0, round(chance.gauss(count / 250, 0.7))) for code, count in REFUSED.items()}
            if 30_000 < ago < 33_000:
                reasons["stamp-required"] += 8
            reasons = {code: count for code, count in reasons.items() if count}
            answers = stored + sum(reasons.values())
            yield {
                "at": at,
                "process": process,
                "seconds": EVERY,
                "stored": stored,
                "refused": answers - stored,
                "sat": stored,
                "answers": answers,
                "answer_us": round(answers * (3_800 + chance.random() * 900)),
                "slow_us": round(9_000 + chance.random() * 5_000),
                "waiting": chance.choice((0, 0, 0, 1, 2, 5)),
                "connections": round(180 + 60 * math.sin(part * 6.28) + chance.random() * 6),
                "lightning": 1,
                "bytes": round(40e6 - ago * 60),
                "reasons": json.dumps(reasons),
                "kept_until": at + 30 * DAY - (ago % 7_000) * 9,
            }


def _tallies(chance: random.Random, today: int) -> Iterable[dict[str, object]]:
    for day in range(today - 6, today + 1):
        for kind, most in STORED.items():
            events = round(most * chance.uniform(0.7, 1.2))
            yield {
                "day": day,
                "subject": "stored",
                "label": str(kind),
                "events": events,
                "sat": events * (kind != 10_002),
            }
        for code, most in REFUSED.items():
            yield {
                "day": day,
                "subject": "refused",
                "label": code,
                "events": round(most * chance.uniform(0.5, 1.4)),
                "sat": 0,
            }


def _bans(chance: random.Random, now: int) -> Iterable[dict[str, object]]:
    for at, (subject, value, reason) in enumerate(
        (
            ("event", chance.randbytes(32), ""),
            ("pubkey", chance.randbytes(32), "spam"),
            ("kind", (1_984).to_bytes(2), "reports go elsewhere"),
            ("pubkey", chance.randbytes(32), "threats, see the mail of 12 November"),
        )
    ):
        yield {"subject": subject, "value": value, "reason": reason, "since": now - (9 - at) * 50_000}


def _treasury(chance: random.Random, today: int) -> Iterable[dict[str, object]]:
    for counter in range(12):
        yield {
            "y": chance.randbytes(33),
            "mint": "https://mint.example" if counter % 3 else "https://stamps.example/bitcoin",
            "keyset": "00" + "ab" * 7,
            "counter": counter,
            "amount": 2 ** (counter % 8),
            "c": chance.randbytes(33),
            "day": today - counter,
            "sweep": None,
        }
