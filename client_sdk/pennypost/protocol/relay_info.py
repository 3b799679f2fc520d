"""The relay information document: written by a post office, read by a client (NIP-11).

    PriceList + addresses ──relay_information──▶ dict (JSON) ──read_postage(kind)──▶ ReadPostage

The fee is said twice: `fees.publication` with `method.Cashu.mints`, the only form Keychat reads, and `fees.stamp`, as
the draft NIP for ecash stamps names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pennypost.protocol.event import KIND_GIFT_WRAP
from pennypost.protocol.frames import MAX_SUBSCRIPTION
from pennypost.protocol.price import PriceList, Rule

MEDIA_TYPE: Final = "application/nostr+json"

MAX_MINTS: Final = 64
_MAX_URL: Final = 512
_MOST_SAT: Final = 2**53 - 1


def relay_information(
    *,
    name: str,
    description: str,
    mints: Sequence[str],
    payments_url: str,
    prices: PriceList,
    supported_nips: Sequence[int],
    software: str,
    version: str,
    max_message_length: int,
    max_subscriptions: int,
    max_filters: int,
    max_limit: int,
    max_content_length: int,
    max_event_tags: int,
    created_at_upper_limit: int,
    created_at_lower_limit: int | None = None,
    pubkey: str | None = None,
    identity: str | None = None,
    contact: str | None = None,
    icon: str | None = None,
    terms_of_service: str | None = None,
    auth_required: bool = False,
) -> dict[str, object]:
    """The document as a JSON object (NIP-11).

    `mints` are the addresses of the mints whose stamps are taken, our own first; `payments_url` is where a person buys
    stamps; `pubkey` is the operator's and `identity` the office's own key in hex (`self`); lengths are in bytes,
    `created_at_upper_limit` (ahead) and `created_at_lower_limit` (behind) in seconds. Fields not given are left out.
    """
    paid = any(rule.base or rule.per_kib or rule.per_day for rule in prices.rules)
    document: dict[str, object | None] = {
        "name": name,
        "description": description,
        "icon": icon,
        "pubkey": pubkey,
        "self": identity,
        "contact": contact,
        "supported_nips": sorted(supported_nips),
        "software": software,
        "version": version,
        "terms_of_service": terms_of_service,
        "limitation": {
            "max_message_length": max_message_length,
            "max_subscriptions": max_subscriptions,
            "max_filters": max_filters,
            "max_limit": max_limit,
            "default_limit": max_limit,
            "max_subid_length": MAX_SUBSCRIPTION,
            "max_event_tags": max_event_tags,
            "max_content_length": max_content_length,
            "created_at_upper_limit": created_at_upper_limit,
            "auth_required": auth_required,
            "payment_required": paid,
            "restricted_writes": paid,
        }
        | ({} if created_at_lower_limit is None else {"created_at_lower_limit": created_at_lower_limit})
        | ({"min_pow_difficulty": prices.least_work} if prices.least_work else {}),
        "payments_url": payments_url if paid else None,
        "fees": _fees(prices, list(mints)) if paid else None,
    }
    return {key: value for key, value in document.items() if value is not None}


def _fees(prices: PriceList, mints: list[str]) -> dict[str, object]:
    # Keychat reads the first entry only and sends gift wraps, so the rule for those comes first.
    for_wraps = [rule for rule in prices.rules if rule.names(KIND_GIFT_WRAP)][:1]
    publication = for_wraps + [rule for rule in prices.rules if rule not in for_wraps]
    return {
        "publication": [_fee(rule) | {"method": {"Cashu": {"mints": mints}}} for rule in publication],
        "stamp": [_fee(rule) | {"mints": mints} for rule in prices.rules],
    }


def _fee(rule: Rule) -> dict[str, Any]:
    fee: dict[str, Any] = {"amount": rule.base, "unit": "sat"}
    if rule.kinds is not None:
        fee["kinds"] = [kind for span in rule.kinds for kind in span]
    if rule.per_kib:
        fee["per_kib"] = rule.per_kib
    if rule.per_day:
        fee["per_day"] = rule.per_day
    if rule.work:
        fee["work"] = rule.work
    if rule.work_instead:
        fee["work_instead"] = rule.work_instead
    return fee


@dataclass(frozen=True, slots=True)
class ReadPostage:
    """What a relay asks for one event of up to 1 KiB: `sat` 0 means no stamp, and `mints` is empty then."""

    sat: int = 0
    unit: str = "sat"
    mints: tuple[str, ...] = ()
    payments_url: str | None = None


def read_postage(document: object, kind: int = KIND_GIFT_WRAP) -> ReadPostage:
    """What a relay's information document asks for an event of that kind; never raises.

    `fees.stamp` goes before `fees.publication`; the first entry that names the kind, or no kinds, counts. Whatever is
    not understood (another unit, no mint, a fee that is not a whole number) counts as not asked.
    """
    fees = _object(_object(document).get("fees"))
    payments_url = _url(_object(document).get("payments_url"))
    for entry in _objects(fees.get("stamp")):
        if _names(entry, kind):
            return _read_fee(entry, entry.get("mints"), payments_url)
    for entry in _objects(fees.get("publication")):
        if _names(entry, kind) and "method" in entry:
            mints = _object(_object(entry.get("method")).get("Cashu")).get("mints")
            return _read_fee(entry, mints, payments_url)
    return ReadPostage(payments_url=payments_url)


def _object(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, object]]:
    return [_object(item) for item in cast("list[object]", value)] if isinstance(value, list) else []


def _names(entry: dict[str, object], kind: int) -> bool:
    kinds = entry.get("kinds")
    if not isinstance(kinds, list):
        return True
    return any(item == kind and not isinstance(item, bool) for item in cast("list[object]", kinds))


def _read_fee(entry: dict[str, object], mints: object, payments_url: str | None) -> ReadPostage:
    amount = entry.get("amount")
    addresses = (
        tuple(filter(None, map(_url, cast("list[object]", mints)[:MAX_MINTS]))) if isinstance(mints, list) else ()
    )
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= _MOST_SAT or not addresses:
        return ReadPostage(payments_url=payments_url)
    match entry.get("unit"):
        case "sat" | "sats":
            return ReadPostage(amount, "sat", addresses, payments_url)
        case "msat" | "msats":
            return ReadPostage(-(-amount // 1000), "sat", addresses, payments_url)
        case _:
            return ReadPostage(payments_url=payments_url)


def _url(value: object) -> str | None:
    if isinstance(value, str) and len(value) <= _MAX_URL and value.startswith(("https://", "http://")):
        return value
    return None
