"""Processes that prepare the load, one for each core."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

CORES = os.cpu_count() or 1


def pool() -> ProcessPoolExecutor:
    """A pool whose processes are started anew, not forked: the caller may have threads."""
    return ProcessPoolExecutor(CORES, mp_context=multiprocessing.get_context("spawn"))
