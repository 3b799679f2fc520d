"""Stamps of mints elsewhere: swapped for proofs of the office's own, journal first (NUT-03).

    verify ▶ Foreign.put ▶ Desk, one a mint ──┐      what comes of a letter is decided once, by its row of the journal
                                              ▼
       journal.begin_on    the commit is rehearsed; then one row: event, stamps, numbers of our outputs
              │            from here on nothing else stores this event, and no other event has these stamps
              ▼
       swap.Swap           the same request as often as it takes ▶ proofs
              │            else state (NUT-07) and restore (NUT-09) decide: refused and untouched, spent elsewhere, or
              │            not known yet, and then the row stays
              ▼
       commit_on           event, proofs into the treasury, end of the row: one transaction

    in doubt for long ▶ doubt.py: the operator looks again, or closes the row; a repeat goes on where it was

    journal ▶ Foreign.run  what a crash left is taken up again      treasury ▶ commands: list, sweep, backup, restore

A letter counts as accepted when its row is written. What happens to it during the swap, its deletion or its expiry,
comes after that: the stamp is paid, the sender hears `accepted`. No address from a token is ever dialled: a `Mint` is
made of the settings alone.
"""
