"""What the operator of a post office does, beside the servers that run it: `pennypost office …`.

    commands ─┬─▶ books      what is stored, banned, waiting; sums by day            reads
              ├─▶ prices     the price list, and what an example costs               reads files alone
              ├─▶ removal    what is to be deleted, and its deletion                 a few hundred events a transaction
              ├─▶ mailbag    mail into a file and out of one, resumable              the transaction of any letter
              └─▶ bans, marks (of the post office itself), treasury (foreign/commands.py)

Every command is a process of its own on the database of the running servers; what they must know they find there.
"""
