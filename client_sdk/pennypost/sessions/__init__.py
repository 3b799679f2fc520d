"""Sessions: letters whose keys are used once and deleted (X3DH and Double Ratchet), between devices.

    publish   signed prekey ─▶ event kind 30511 of the npub      word, introduce: with a one-time key, by QR or sealed
    send      newest session of each device of the receiver, else X3DH with its prekeys ─▶ state saved ─▶ stealth wrap
    take      stealth wrap ─▶ session (or X3DH) ─▶ state and text saved in one transaction ─▶ Mail
    reset     a session that we do not have any more ─▶ told by letter ─▶ the other side begins anew

A device is a home: it has an identity key of its own, and never the state of another. Two devices of one person have
one npub and are two addresses; a message goes to each, with a stamp each. The wrap around a message is that of every
letter.
"""

from __future__ import annotations

from typing import Final

KIND_SESSION: Final = 4_511
"""The kind of the rumor that carries a message of a session; it is seen by its receiver alone."""
KIND_PREKEYS: Final = 30_511
"""The event in which a device publishes its signed prekey: addressable, `d` is the device."""
