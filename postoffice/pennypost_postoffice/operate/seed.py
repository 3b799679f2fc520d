"""`pennypost office seed …`: the file of the seed that the office's earnings at mints elsewhere follow from."""

from __future__ import annotations

from pennypost.protocol.errors import OfficeNotStarted, OfficeSeedLocked
from pennypost_mint.runtime.seed_commands import SeedFile, seed_commands

seed = seed_commands(
    SeedFile(
        "office",
        "PENNYPOST_OFFICE_SEED_PASSPHRASE_FILE",
        lambda settings: settings.office_seed,
        lambda settings: settings.office_seed_passphrase,
        OfficeNotStarted,
        OfficeSeedLocked,
    )
)
