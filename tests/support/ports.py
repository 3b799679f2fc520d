"""Free TCP ports on loopback."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port below the ephemeral range, so that no outgoing connection takes it while a server restarts."""
    for port in random.sample(range(10_000, 32_000), 500):
        with socket.socket() as probe:
            # as servers do: a port whose old connections linger in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port below 32000")
