"""The Cashu mint: it sells stamps over Lightning, exchanges them, and never buys them back.

    wallet ─▶ routes ─▶ service.Mint
                          │
      quote   minting ────┼─▶ lightning (play, lnd)         an invoice for exactly the quote's amount
                          │        │ settled, looked up
                          │        ▼
                          │   quotes        UNPAID ─▶ PAID ─▶ ISSUED, a payment is credited once and always
                          │
      mint    minting ────┼─▶ signing (worker processes) ─▶ one transaction: answers, quote, outputs
      swap    swap ───────┼─▶ signing (worker processes) ─▶ one transaction: answers, spent, outputs
      check, restore  state ─▶ reads

One transaction a request, and unique keys decide every race: `answers.request` (the same request again),
`spent.y` (the same proof twice), `outputs.b` (the same blinded message twice). Signatures are made before the
transaction and leave the process only after it, so a crash leaves all or nothing, and a lost answer can be had
again by repeating the request (NUT-19) or by NUT-09.

`api` is what the post office sees; it spends stamps in its own transaction with the same functions.
"""
