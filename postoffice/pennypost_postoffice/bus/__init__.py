"""How the processes of one office wake each other: short messages, of which each may be lost.

    commit ▶ feed N ─┐                                        ┌▶ follow: reads the rows behind its own number
    ephemeral event ─┼▶ queue ▶ one write for all that waits ─┤▶ live: the event, which nobody keeps
    bans, reload ────┘      LISTEN/NOTIFY, or NATS            └▶ follow: reads the marks
    here, every 5 s: it comes back to its sender too, or the bus counts as lost

The database is the truth and the bus a hint: what it says is never believed, only looked up. While it is away each
process looks at the database every second. Only ephemeral events travel in it themselves, in pieces where they are
large: those of a time without a bus reach the subscribers of their own process alone.
"""
