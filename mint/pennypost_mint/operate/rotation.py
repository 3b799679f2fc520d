"""Another keyset for new stamps, and the end of sales: one row each, which every running server follows.

rotate   the next keyset signs, the one before it does not any more; its stamps stay good
sunset   no quotes any more; what was paid is still given out, swaps and letters go on
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pennypost.protocol.errors import InvalidInput
from pennypost_mint import keysets
from pennypost_mint.keyring import Keyring, Keyset, row_of
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.settings import Settings

DAY = 86_400
LATEST = 253_402_300_799
"""The last second of the year 9999."""


async def rotate(database: Database, settings: Settings, final_expiry: int | None) -> Keyset:
    """The new keyset, stored and active; `final_expiry` in Unix seconds, after which its stamps are worthless.

    Raises InvalidInput for an expiry that is not later than a day from now, SeedMismatch, SeedLocked.
    """
    check_expiry(final_expiry, int(time.time()))
    keyring = await Keyring.open_existing(database, settings)
    while True:
        keyset = keyring.rotated(final_expiry, settings.keyset_version)
        if await take_up(database, keyset):
            return keyset
        # Somebody else rotated at the same moment: this is one more.
        await keyring.refresh()


def check_expiry(final_expiry: int | None, now: int) -> None:
    """Raises InvalidInput for an expiry (Unix seconds) that is not later than a day from `now`."""
    if final_expiry is not None and not now + DAY <= final_expiry <= LATEST:
        raise InvalidInput("the final expiry is a day away or more")


async def take_up(database: Database, keyset: Keyset) -> bool:
    """Stores a keyset that `Keyring.rotated` made, and signs with it; whether it was still the next one."""
    return await database.write(keysets.rotate_on, row_of(keyset, int(time.time())))


def expiry_of(text: str) -> int:
    """Unix seconds of a date (its last second, UTC) or of digits. Raises InvalidInput."""
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidInput("a final expiry is a date such as 2031-12-31, or Unix seconds") from None
    return int(day.timestamp()) + DAY - 1


async def sunset(database: Database, *, resume: bool) -> int | None:
    """Ends the sales, or resumes them; since when nothing is sold (Unix seconds), None where it is."""
    if resume:
        await database.write(keysets.resume_sales_on)
    else:
        await database.write(keysets.end_sales_on, int(time.time()))
    return (await database.read(keysets.standing_on)).sunset
