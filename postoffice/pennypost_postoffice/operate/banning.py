"""Banning as commands, NIP-86 and the operator's pages do it: an event that is banned is deleted, too."""

from __future__ import annotations

from sqlalchemy import Connection

from pennypost.protocol.errors import InvalidInput
from pennypost.protocol.event import is_hex64
from pennypost.protocol.nip19 import decode_note, parse_public_key
from pennypost_postoffice.bans import Ban, Subject, ban_on, unban_on
from pennypost_postoffice.operate.removal import Selection, allow_on, delete_on
from pennypost_postoffice.operate.talk import kinds_of


def forbid_on(connection: Connection, ban: Ban) -> int:
    """Bans, and deletes a banned event; how many were deleted. Raises TooManyBans."""
    ban_on(connection, ban)
    return delete_on(connection, Selection(ids=(ban.value,))) if ban.subject == "event" else 0


def permit_on(connection: Connection, subject: Subject, value: str) -> bool:
    """Takes a ban away, so that a deleted event may be posted again; whether there was one."""
    if subject == "event":
        allow_on(connection, value)
    return unban_on(connection, subject, value)


def value_of(subject: Subject, text: str) -> str:
    """What is banned as `Ban.value` has it, of what a person writes: npub or hex, note or hex, a kind.

    Raises InvalidKey, InvalidInput.
    """
    if subject == "pubkey":
        return parse_public_key(text).hex()
    if subject == "event":
        return text if is_hex64(text) else decode_note(text).hex()
    found = kinds_of(text)
    if found is None or len(found) != 1:
        raise InvalidInput("one kind, such as 1984")
    return str(found[0])
