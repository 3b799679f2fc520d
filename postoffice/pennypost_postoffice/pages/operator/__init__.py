"""The operator's pages: what the office earns and how it does, and what can be done about it without a shell.

    pennypost office login ─▶ a link, once ─┐
    NIP-98, a key of PENNYPOST_OPERATORS ───┴▶ sign_in ─▶ cookie ─▶ gate ─▶ routes ─┬▶ money, health, quotes: read
                                                                                   └▶ prices, bans, keysets: change

Each page is one module with `read(house, query) ─▶ View`: what it shows as JSON, its tables (CSV and JSON of their own)
and its markup; those that change something have `act(house, form)`. They call what `pennypost mint …` and
`pennypost office …` call, in this process and on its database. Whoever is not signed in sees the sign-in alone.
"""
