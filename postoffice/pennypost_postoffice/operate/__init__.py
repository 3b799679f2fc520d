"""What the operator of a post office does, beside the servers that run it: `pennypost office …`.

    commands ─┬─▶ books      what is stored, banned, waiting; sums by day            reads
              ├─▶ prices     the price list, what an example costs, another list     reads a file; or a row and a mark
              ├─▶ removal    what is to be deleted, and its deletion                 a few hundred events a transaction
              ├─▶ mailbag    mail into a file and out of one, resumable              the transaction of any letter
              ├─▶ banning    bans of authors, events and kinds                       a row and a mark
              └─▶ bans, marks (of the post office itself), treasury (foreign/commands.py)

Every command is a process of its own on the database of the running servers; what they must know they find there.
"""
