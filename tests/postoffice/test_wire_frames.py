"""Heads of frames: written as the full parser reads them, measured as it writes them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from pennypost_postoffice.wire import frame, measure


@given(st.one_of(st.text(max_size=200), st.integers(0, 70_000).map(lambda size: "é" * size)))
def test_frames_we_write(text: str) -> None:
    """What the full parser of a client reads is what was written."""
    data = frame(text)
    found = measure(data, 0)
    assert found is not None
    head, size = found
    assert (head + size, data[head:].decode()) == (len(data), text)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("masked", [False, True])
def test_measuring_an_incomplete_head(size: int, masked: bool) -> None:
    whole = Frame(Opcode.TEXT, os.urandom(size)).serialize(mask=masked)
    head = len(whole) - size
    assert [measure(whole[:length], 0) for length in range(head)] == [None] * head
    assert measure(whole[:head], 0) == (head, size)
    assert measure(b"xx" + whole, 2) == (head, size)
