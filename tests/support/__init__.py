"""What the tests stand on: real servers, databases, Lightning nodes, wallets and an installed wheel.

require.py    skip with a reason, or fail when nothing may skip
ports.py      free ports
server.py     a server process: start, wait, stop, kill -9
postgres.py   a PostgreSQL of the tests' own
lightning.py  two LND nodes and btcd
installed.py  the built wheel in an empty environment
stamps.py     stamps bought over plain HTTP, swapped, checked
relay.py      frames over a plain WebSocket
"""
