"""Side-by-side measurements: `make bench`, or `python -m tests.bench --help`.

    letters.py   events signed beforehand ─┐
    stamps.py    stamps really bought ─────┴▶ load.py, a process of its own ─▶ servers.py: one of
                                                  │                              pennypost on SQLite or PostgreSQL,
    cpu.py       CPU of all server processes ◀────┘                              nostr-relay, Nutshell's mint
    ceiling.py   what the same signatures cost in libsecp256k1 alone
    mail.py      events, stamped or not, and unstamped ones at nostr-relay, until they can be read back
    reads.py     REQs, reads of the header feed, delivery to many subscribers
    mint.py      quotes, mint, swap, checkstate, restore, against Nutshell's mint; resident memory
    sdk.py       the client: scanning beside pure cryptography and NIP-17 by nostr-sdk, sending, choosing, importing
    filling.py   tables filled set-based, for the cost of one more when there are very many
    report.py    ratios, JSON, a Markdown table         profile.py  where the time goes

CPU seconds are what counts: they are user and system time of every process of the server, its database included, the
client excluded. Rates of a wall clock say more about a shared machine's neighbours.
"""
