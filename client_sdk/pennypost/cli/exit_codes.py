"""Exit codes of the command line: one table, from the branches of the error tree."""

from __future__ import annotations

from typing import Final

from pennypost.protocol import errors
from pennypost.protocol.errors import PennypostError

OK: Final = 0
OTHER: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

BY_ERROR: Final[dict[type[PennypostError], int]] = {
    errors.InvalidInput: 3,
    errors.NotEnoughStamps: 4,
    errors.PriceTooHigh: 4,
    errors.StampError: 4,
    errors.OtherMint: 4,
    errors.ChannelUnknown: 3,
    errors.NoSession: 3,
    errors.OnceUsed: 3,
    errors.NameChanged: 3,
    errors.NameUnreachable: 7,
    errors.SessionsMissing: 10,
    errors.EncryptionMissing: 10,
    errors.NotChannelOwner: 5,
    errors.NotChannelPoster: 5,
    errors.PolicyError: 5,
    errors.MintError: 6,
    errors.OfficeUnreachable: 7,
    errors.ServerError: 7,
    errors.TooMany: 7,
    errors.PaymentTimeout: 8,
    errors.OfficeMisbehaves: 9,
    errors.ProxyInTheWay: 9,
    errors.CertificateWrong: 9,
    errors.BooksOff: 13,
    errors.BackupTooOld: 13,
    errors.ServerExtraMissing: 10,
    errors.ConfigurationError: 10,
    errors.WalletError: 12,
    errors.AmountTooHigh: 12,
    errors.OfferExpired: 12,
    errors.PaymentUnknown: 8,
    errors.NotAnswered: 8,
    errors.GarbageProof: 9,
    errors.HomeUnusable: 11,
    errors.KeyExists: 11,
}

TABLE: Final[tuple[tuple[int, str], ...]] = (
    (OK, "done"),
    (OTHER, "anything that is not below"),
    (USAGE, "the command line cannot be understood"),
    (3, "a key, a token, a letter or a number cannot be used"),
    (4, "no stamps, or stamps that are not good for this; more stamps asked than you allow"),
    (5, "the post office does not accept this"),
    (6, "the mint refuses this"),
    (7, "nobody answers, or not now: run the same command again"),
    (8, "not paid, or not answered, yet: run the same command again, it goes on and pays once"),
    (9, "the other side broke the protocol"),
    (10, "a part is not installed (server, sessions, encrypted), or its settings do not allow a start"),
    (11, "the home cannot be used, is encrypted or in use, or has an identity already"),
    (12, "the Lightning wallet cannot, refuses or is not there; more asked than you allow: nothing was paid"),
    (13, "the mint's books do not balance, or a backup is too old to restore"),
    (INTERRUPTED, "interrupted by Ctrl-C"),
)
"""Code and meaning, for `--help` and the reference page."""


def exit_code(error: PennypostError) -> int:
    """The code of an error: that of the nearest branch it belongs to."""
    for branch in type(error).__mro__:
        if branch in BY_ERROR:
            return BY_ERROR[branch]
    return OTHER
