"""Free TCP ports on loopback."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from itertools import islice

PORTS = range(10_000, 32_000)
"""Below the ephemeral range, so that no outgoing connection takes one while a server restarts."""


def _own() -> Iterator[int]:
    """This test process's share of them, in an order of chance, over and over.

    A port is bound a while after it was given out, and between two starts of a server nobody holds it: meanwhile no
    other test process of the run gives it out, and this one only when it has been through its share.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = PORTS[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    # the generator that all modules share may begin at the same number everywhere: Hypothesis sees to that
    chance = random.SystemRandom()
    while True:
        yield from chance.sample(share, len(share))


_ports = _own()


def free_port() -> int:
    """A port that nobody listens on."""
    for port in islice(_ports, 500):
        with socket.socket() as probe:
            # as servers do: a port whose old connections linger in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port below 32000")
