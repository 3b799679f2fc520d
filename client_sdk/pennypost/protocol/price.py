"""What an event costs and how long it is kept (wire contract, section 1, Stamps).

    event ─▶ the first rule that names its kind ─▶ keep_until ─▶ days charged ─▶ Postage(sat, keep_until, free, …)

A price file (TOML) is a list of rules, tried in order, and the kinds that need no stamp:

    free_kinds = [10002, 10050]
    [[rule]]
    kinds = [1059, "30000-39999"]     # absent: every kind
    base = 1                          # sat; 0 with both of the next 0, too: these cost nothing
    per_kib = 0                       # sat for each KiB begun above the first
    per_day = 0                       # sat for each day of kept time
    ttl_default = 2592000             # seconds, where the event has no expiration
    ttl_max = 31536000                # seconds
    work = 0                          # bits of work (NIP-13) that each of these events needs beside its stamp
    work_instead = 0                  # bits that stand for the stamp; 0: nothing does

Raising a `ttl_default` later lets mail whose time was over be sent again: it prolongs `keep_until` of old events too.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, cast

from pennypost.protocol.errors import ConfigurationError, EventExpired, KindRefused, TooLong, WorkRequired
from pennypost.protocol.event import KIND_DELETION, MAX_KIND, Event, expiration
from pennypost.protocol.work import ID_BITS, committed_work

KIB: Final = 1_024
HOUR: Final = 3_600
DAY: Final = 86_400

FREE_KINDS: Final = frozenset({13_194, 10_002, 10_050, 10_443, 23_194, 23_195})
"""Wallet requests (NIP-47), relay lists (NIP-65, NIP-17) and key packages: what Keychat and wallets send unstamped."""

_MOST_SAT: Final = 2**31
_MOST_TTL: Final = 100 * 365 * DAY
_RANGE: Final = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Rule:
    """The price of some kinds (None: of every kind), in sat; times to live in seconds; work in bits (NIP-13).

    `work` is needed beside the stamp, `work_instead` is as good as one (0: nothing is).
    """

    kinds: tuple[range, ...] | None = None
    base: int = 1
    per_kib: int = 0
    per_day: int = 0
    ttl_default: int = 30 * DAY
    ttl_max: int = 365 * DAY
    work: int = 0
    work_instead: int = 0

    def names(self, kind: int) -> bool:
        """Whether the rule is for events of this kind."""
        return self.kinds is None or any(kind in span for span in self.kinds)


@dataclass(frozen=True, slots=True)
class PriceList:
    """Rules in the order they are tried, and the kinds that need no stamp. Without changes: 1 sat an event."""

    rules: tuple[Rule, ...] = (Rule(),)
    free_kinds: frozenset[int] = FREE_KINDS

    def rule(self, kind: int) -> Rule:
        """The first rule that names the kind. Raises KindRefused without one."""
        for rule in self.rules:
            if rule.kinds is None or rule.names(kind):
                return rule
        raise KindRefused

    @property
    def least_work(self) -> int:
        """Bits of work that every event needs, whatever its kind (NIP-11, min_pow_difficulty)."""
        return min((rule.work for rule in self.rules), default=0)

    def check_work(self, event: Event) -> None:
        """Raise WorkRequired unless the event has the work that its kind needs beside its stamp."""
        for rule in self.rules:
            if rule.names(event.kind):
                _check_work(event, rule)
                return


@dataclass(frozen=True, slots=True)
class Postage:
    """What an event needs: `sat` to pay, kept until `keep_until` (Unix seconds); `free`: no stamp is looked at.

    `unpriced`: free because its rule asks nothing, or takes its work instead, and not for being of a free kind.
    """

    sat: int
    keep_until: int
    free: bool
    unpriced: bool = False


def keep_until(event: Event, prices: PriceList) -> int:
    """The Unix time until which the event is kept: its expiration (NIP-40), else `created_at` + the kind's TTL.

    It depends on the event alone, never on its arrival: deleted mail cannot be revived with a fresh stamp. Raises
    KindRefused, and InvalidEvent for an unreadable expiration.
    """
    until = expiration(event)
    if until is not None:
        return until
    return event.created_at + prices.rule(event.kind).ttl_default


def postage(event: Event, size_bytes: int, now: int, prices: PriceList) -> Postage:
    """What it costs to have the event stored at `now` (Unix seconds); `size_bytes` is that of its canonical form.

    Whether a deletion (kind 5) is free depends on what is stored, so the caller decides that one. Raises EventExpired,
    TooLong, KindRefused, WorkRequired, and InvalidEvent for an unreadable expiration.
    """
    rule = prices.rule(event.kind)
    if rule.work:
        _check_work(event, rule)
    until = keep_until(event, prices)
    if until <= now:
        raise EventExpired
    # An hour of grace, for days charged and the maximum alike: clocks differ, and delivery takes time.
    charged = max(0, until - now - HOUR)
    if charged > rule.ttl_max:
        raise TooLong
    if event.kind in prices.free_kinds:
        return Postage(0, until, free=True)
    if rule.work_instead and committed_work(event) >= rule.work_instead:
        return Postage(0, until, free=True, unpriced=True)
    kib = -(-max(0, size_bytes - KIB) // KIB)
    sat = rule.base + rule.per_kib * kib + rule.per_day * -(-charged // DAY)
    return Postage(sat, until, free=sat == 0, unpriced=sat == 0)


def _check_work(event: Event, rule: Rule) -> None:
    # To delete must stay possible for whoever signs elsewhere.
    if event.kind != KIND_DELETION and committed_work(event) < rule.work:
        raise WorkRequired(f"{rule.work} bits")


def parse_prices(text: str) -> PriceList:
    """Read a price file (TOML). Raises ConfigurationError that names the key at fault."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError("the price file is no TOML") from error
    return read_prices(document)


def read_prices(document: dict[str, Any]) -> PriceList:
    """The price list of a decoded price file. Raises ConfigurationError that names the key at fault."""
    _refuse_unknown(document, {"rule", "free_kinds"})
    rules = document.get("rule", [{}])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in cast("list[object]", rules)):
        raise ConfigurationError("rule is not a list of tables in the price file")
    free_kinds = FREE_KINDS
    if "free_kinds" in document:
        free_kinds = frozenset(kind for span in _read_kinds("free_kinds", document["free_kinds"]) for kind in span)
    return PriceList(tuple(_read_rule(rule) for rule in cast("list[dict[str, Any]]", rules)), free_kinds)


def price_document(prices: PriceList) -> dict[str, Any]:
    """The price file of a price list, decoded: `read_prices` reads the same list from it."""
    return {"free_kinds": _spans(prices.free_kinds), "rule": [_rule_table(rule) for rule in prices.rules]}


def _rule_table(rule: Rule) -> dict[str, Any]:
    table = {field.name: getattr(rule, field.name) for field in fields(rule) if field.name != "kinds"}
    return table if rule.kinds is None else table | {"kinds": [_span(span) for span in rule.kinds]}


def _spans(kinds: Iterable[int]) -> list[int | str]:
    spans: list[range] = []
    for kind in sorted(kinds):
        if spans and spans[-1].stop == kind:
            spans[-1] = range(spans[-1].start, kind + 1)
        else:
            spans.append(range(kind, kind + 1))
    return [_span(span) for span in spans]


def _span(span: range) -> int | str:
    return span.start if len(span) == 1 else f"{span.start}-{span.stop - 1}"


def _read_rule(table: dict[str, Any]) -> Rule:
    bounds = {
        "base": _MOST_SAT,
        "per_kib": _MOST_SAT,
        "per_day": _MOST_SAT,
        "ttl_default": _MOST_TTL,
        "ttl_max": _MOST_TTL,
        "work": ID_BITS,
        "work_instead": ID_BITS,
    }
    _refuse_unknown(table, {"kinds", *bounds})
    given = {key: _read_number(key, table[key], most) for key, most in bounds.items() if key in table}
    rule = Rule(_read_kinds("kinds", table["kinds"]) if "kinds" in table else None, **given)
    if not 0 < rule.ttl_default <= rule.ttl_max:
        raise ConfigurationError("ttl_default is not between 1 and ttl_max in the price file")
    return rule


def _refuse_unknown(table: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(table.keys() - known):
        raise ConfigurationError(f"unknown key {unknown[0]!r} in the price file")


def _read_number(key: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ConfigurationError(f"{key} is not a whole number from 0 to {most} in the price file")
    return value


def _read_kinds(key: str, value: object) -> tuple[range, ...]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{key} is not a list in the price file")
    return tuple(_read_span(key, item) for item in cast("list[object]", value))


def _read_span(key: str, item: object) -> range:
    if isinstance(item, str) and (found := _RANGE.fullmatch(item)):
        first, last = int(found[1]), int(found[2])
    else:
        first = last = _read_number(key, item, MAX_KIND)
    if not first <= last <= MAX_KIND:
        raise ConfigurationError(f"{key} holds an empty range or a kind over {MAX_KIND} in the price file")
    return range(first, last + 1)
