"""The process that scans a part of the headers for scanning.py: `python -m pennypost.scan_worker`.

    stdin   length ‖ spend key ‖ scan secrets,  then  length ‖ header feed, again and again
    stdout  length ‖ READY,                     then  length ‖ places that fit (4 bytes each)

It ends with its stdin. Lengths and places are 4 bytes, big-endian.
"""

from __future__ import annotations

import sys
from typing import BinaryIO, Final

from pennypost.protocol.headers import decode_headers
from pennypost.protocol.stealth import Scanner
from pennypost.scanning import COUNT, READY

LIMIT: Final = 16 * 1024 * 1024
"""Bytes of one message."""


def main() -> None:
    """Answer until stdin ends."""
    read, write = sys.stdin.buffer, sys.stdout.buffer
    keys = _message(read)
    scanners = [Scanner(keys[start : start + 32], keys[:32]) for start in range(32, len(keys), 32)]
    _answer(write, READY)
    while feed := _message(read):
        _, headers = decode_headers(feed)
        place = {header.seq: number for number, header in enumerate(headers)}
        found = {place[hit.header.seq] for scanner in scanners for hit in scanner.scan(headers)}
        _answer(write, b"".join(COUNT.pack(number) for number in sorted(found)))


def _message(read: BinaryIO) -> bytes:
    """The next message; empty at the end."""
    start = read.read(COUNT.size)
    if len(start) < COUNT.size:
        return b""
    (size,) = COUNT.unpack(start)
    return read.read(size) if size <= LIMIT else b""


def _answer(write: BinaryIO, message: bytes) -> None:
    write.write(COUNT.pack(len(message)) + message)
    write.flush()


if __name__ == "__main__":
    main()
