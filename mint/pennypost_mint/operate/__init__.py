"""What the operator of a mint does, beside the servers that run it: `pennypost mint …`.

    commands ─┬─▶ books       what was sold, spent, given away; whether the books balance      reads
              ├─▶ purchases   quotes listed, looked up at the node, credited                   `quotes`, `reconcile`
              ├─▶ promotions  stamps without Lightning                                         one transaction
              ├─▶ rotation    another keyset, the end of sales                                 one transaction
              └─▶ backup      the mint's tables in a file, and back                            one snapshot

Every command is a process of its own on the database of the running servers: nothing is told to them, they see it.
"""
