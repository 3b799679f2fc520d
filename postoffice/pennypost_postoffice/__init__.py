"""The post office: a Nostr relay that takes a stamp and stores the letter in one transaction.

    socket ▶ connection ▶ frames            256 KiB, parsed; AUTH, REQ, CLOSE answered from here
                │ EVENT
                ▼
             accept ▶ policy ▶ stamps       cheap checks in one list; each passes or raises, nothing is taken
                │
                ▼
             verify                         recent ids and stamps: looked up, no crypto
                │                           everything else: signature and stamps in worker processes
                │  └─ a stamp of a mint elsewhere ▶ foreign: journal, swap ─┐
                ▼                                                           ▼
             commit                         one transaction for everything that waits: spend and store,
                │                           deletion (NIP-09), change, feed numbers last
                ▼
             OK ▶ sockets      live ▶ subscribers      feed ▶ long polls

    REQ ▶ queries ▶ store ▶ pages of rows ▶ EOSE ▶ live           GET /v1/headers, /v1/pages/<n> ▶ feed
    COUNT ▶ queries, NEG-OPEN ▶ syncs: the same rows, counted or compared (NIP-45, NIP-77)
    kind 62 ▶ verify ▶ vanish (NIP-62)        graves: what stays out
    retention: what has expired is deleted for real, in every table and on the disk

One verb a file. `post.Post` is what travels, `office.Office` the table of contents. An event is answered once, after it
is durable or refused; whoever is late waits for the next batch, and every queue has a bound that stops its source.
"""
