"""Structured logs on stderr. They never carry tokens, secrets, invoices, keys or addresses: only counts and codes."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


class _Stderr:
    """What stderr is at the time of each line: loggers are kept longer than a stream that was put in its place."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logs(form: Literal["text", "json"]) -> None:
    """Sends structlog and the standard library's warnings to stderr in one form."""
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_Stderr()),  # pyright: ignore[reportArgumentType]
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # httpx logs addresses with their query at INFO, and a mint's invoices are in there
    logging.getLogger("httpx").setLevel(logging.WARNING)


def logger(part: str) -> structlog.stdlib.BoundLogger:
    """A logger bound to the part of the program that speaks."""
    return structlog.get_logger(part=part)
