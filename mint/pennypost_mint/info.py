"""What the mint says of itself (NUT-01, NUT-02, NUT-06)."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pennypost.protocol.nuts import MAX_BATCH, KeysAnswer, KeysetInfo, KeysetKeys, KeysetsAnswer, QuoteAnswer
from pennypost.protocol.subscription import Kind
from pennypost_mint.answers import TTL
from pennypost_mint.keyring import UNIT, Keyring, Keyset
from pennypost_mint.quotes import Quote
from pennypost_mint.runtime.limits import MAX_ITEMS
from pennypost_mint.runtime.settings import Settings

METHOD = "bolt11"

DESCRIPTION = "Sells stamps for post offices over Lightning. A stamp is 1 sat; stamps are spent, not bought back."
SUNSET = "This mint sells no more stamps. Those already sold stay good, and what was paid is still given out."
PLAY = "PLAY MONEY: invoices here are not real, settle by themselves, and these stamps are worth nothing."


def mint_info(settings: Settings, keyring: Keyring, *, play_money: bool, now: int) -> dict[str, Any]:
    """The mint's description of itself (NUT-06)."""
    info: dict[str, Any] = {
        "name": f"{settings.name} (play money)" if play_money else settings.name,
        "pubkey": keyring.identity.hex(),
        "version": f"pennypost/{version('pennypost')}",
        "description": DESCRIPTION,
        "contact": [_contact(settings.contact)] if settings.contact else [],
        "urls": [settings.url],
        "time": now,
        "max_array_length": MAX_ITEMS,
        "nuts": _nuts(settings, selling=keyring.sunset is None),
    }
    said = [text for text, holds in ((PLAY, play_money), (SUNSET, keyring.sunset is not None)) if holds]
    if said:
        info["motd"] = " ".join(said)
    return info


def _contact(text: str) -> dict[str, str]:
    method = "nostr" if text.startswith("npub1") else "email" if "@" in text else "web"
    return {"method": method, "info": text}


def _nuts(settings: Settings, *, selling: bool) -> dict[str, Any]:
    method = {
        "method": METHOD,
        "unit": UNIT,
        "min_amount": 1,
        "max_amount": settings.max_mint,
        "options": {"description": True},
    }
    cached = ["/v1/swap", f"/v1/mint/{METHOD}", f"/v1/mint/{METHOD}/batch"]
    return {
        "4": {"methods": [method], "disabled": not selling},
        # Stamps are never bought back: the one deliberate deviation from the mandatory NUTs.
        "5": {"methods": [], "disabled": True},
        "7": {"supported": True},
        "9": {"supported": True},
        "10": {"supported": True},
        "11": {"supported": True},
        "12": {"supported": True},
        "14": {"supported": True},
        "17": {"supported": [{"method": METHOD, "unit": UNIT, "commands": list(Kind)}]},
        "19": {"ttl": TTL, "cached_endpoints": [{"method": "POST", "path": path} for path in cached]},
        "20": {"supported": True},
        "29": {"max_batch_size": MAX_BATCH, "methods": [METHOD]},
    }


def active_keys(keyring: Keyring) -> KeysAnswer:
    """Keysets that sign, with their keys (NUT-01)."""
    return KeysAnswer([_with_keys(keyset) for keyset in keyring.keysets if keyset.active])


def keys_of(keyring: Keyring, keyset_id: str) -> KeysAnswer:
    """One keyset with its keys, active or not (NUT-02). Raises KeysetUnknown."""
    return KeysAnswer([_with_keys(keyring.get(keyset_id))])


def all_keysets(keyring: Keyring) -> KeysetsAnswer:
    """Every keyset, without keys (NUT-02)."""
    return KeysetsAnswer(
        [
            KeysetInfo(keyset.id, keyset.unit, keyset.active, keyset.input_fee_ppk, keyset.final_expiry)
            for keyset in keyring.keysets
        ]
    )


def _with_keys(keyset: Keyset) -> KeysetKeys:
    keys = {str(amount): point.hex() for amount, point in keyset.keys.items()}
    return KeysetKeys(keyset.id, keyset.unit, keys, keyset.active, keyset.input_fee_ppk, keyset.final_expiry)


def quote_answer(quote: Quote) -> QuoteAnswer:
    """A quote as it goes over the wire (NUT-23, NUT-20)."""
    return QuoteAnswer(
        quote=quote.id,
        request=quote.request,
        unit=quote.unit,
        state=quote.wire_state,
        amount=quote.amount,
        expiry=quote.expiry,
        pubkey=quote.pubkey,
        method=METHOD,
        amount_paid=quote.amount_paid,
        amount_issued=quote.amount_issued,
        updated_at=quote.updated_at,
    )
