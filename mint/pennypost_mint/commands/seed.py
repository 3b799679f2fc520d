"""`pennypost mint seed …`: the file of the mint's seed."""

from __future__ import annotations

from pennypost.protocol.errors import MintNotStarted, SeedLocked
from pennypost_mint.runtime.seed_commands import SeedFile, seed_commands

seed = seed_commands(
    SeedFile(
        "mint",
        "PENNYPOST_MINT_SEED_PASSPHRASE_FILE",
        lambda settings: settings.seed_file,
        lambda settings: settings.mint_seed_passphrase,
        MintNotStarted,
        SeedLocked,
    )
)
