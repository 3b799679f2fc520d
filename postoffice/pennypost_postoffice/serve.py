"""Runs mint and post office in one process behind uvicorn, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from pennypost.protocol.errors import ConfigurationError
from pennypost_mint.runtime.limits import MAX_FRAME
from pennypost_mint.runtime.logs import configure_logs
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.app import Receive, Scope, Send, Service
from pennypost_postoffice.at_home import at_home, is_loopback
from pennypost_postoffice.http import BoundedHttp
from pennypost_postoffice.wire import WireProtocol

GRACE = 20
"""Seconds that requests and events in flight have to be answered when the process is told to stop."""

BACKLOG = 2048

FILES = 65_536
"""Open files and sockets that are asked for, as far as the system allows: each connection is one."""

UNREAD = 60
"""Seconds after which the kernel gives up a connection whose peer takes nothing of what was sent (Linux)."""

COLLECT = (20_000, 20, 20)
"""When Python looks for reference cycles: new objects, and multiples for older ones."""


def serve(load: Callable[[], Settings], *, as_json: bool = False) -> None:
    """Serves until SIGINT or SIGTERM; SIGHUP makes it `load` its settings again.

    Raises ConfigurationError where a start makes no sense.
    """
    settings = load()
    refuse_public_play_money(settings)
    configure_logs(settings.log)
    allow_files()
    uvloop = _uvloop()
    with asyncio.Runner(loop_factory=uvloop) as runner:
        runner.run(_serve(settings, load, as_json))


def allow_files() -> None:
    """Raises the limit of open files towards FILES; the operator's own limit (`ulimit -Hn`) stands."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def refuse_public_play_money(settings: Settings) -> None:
    """Raises ConfigurationError when play money would be sold on an address that others can reach."""
    host = "localhost" if _answers_at_home(settings) else settings.host
    named = urlsplit(settings.public_url).hostname or host
    reached = not (is_loopback(host) and is_loopback(named))
    if _sells_play_money(settings) and settings.play_public is not True and reached:
        raise ConfigurationError(
            "play money on an address that others can reach needs PENNYPOST_PLAY_PUBLIC=true, "
            "or choose PENNYPOST_LIGHTNING=lnd"
        )


def _sells_play_money(settings: Settings) -> bool:
    return settings.lightning == "play" and settings.role != "postoffice"


def _answers_at_home(settings: Settings) -> bool:
    return settings.play_public == "local"


def _uvloop():  # type: ignore[no-untyped-def]
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(settings: Settings, load: Callable[[], Settings], as_json: bool) -> None:
    listener = _listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    service = await Service.open(settings)
    service.load = load
    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload)
    # what is loaded by now stays; looking through it again and again took 13 of the loop's 81 µs a letter
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    try:
        await Server(service, settings, as_json).serve(sockets=[listener])
    finally:
        await service.close()


def uvicorn_config(service: Service, settings: Settings) -> uvicorn.Config:
    """One place for everything we ask of uvicorn: bounded frames and answers, no compression, no log of addresses."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and service.office is not None:
            send = service.office.outgoing.answering(send)
        await service.asgi(scope, receive, send)

    config = uvicorn.Config(
        at_home(application) if _sells_play_money(settings) and _answers_at_home(settings) else application,
        interface="asgi3",
        host=settings.host,
        port=settings.port,
        lifespan="off",
        http=BoundedHttp,
        ws=WireProtocol,
        ws_max_size=_largest_frame(settings),
        ws_per_message_deflate=False,
        ws_ping_interval=30.0,
        ws_ping_timeout=60.0,
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
    )

    def resize(changed: Settings) -> None:
        config.ws_max_size = _largest_frame(changed)

    service.on_settings = resize
    return config


def _largest_frame(settings: Settings) -> int:
    """Bytes past which a connection is cut off. A smaller limit of the post office is answered."""
    return max(MAX_FRAME, settings.max_message)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Closing a connection waits for a peer that never reads; accepted connections inherit this end to it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1_000 * UNREAD)
    return listener


class Server(uvicorn.Server):
    """Says when it serves; answers every event in flight before the sockets are closed."""

    def __init__(self, service: Service, settings: Settings, as_json: bool) -> None:
        super().__init__(uvicorn_config(service, settings))
        self._service, self._settings, self._as_json = service, settings, as_json

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGINT and SIGTERM end the serving, and nothing more: uvicorn would raise them again before all is closed."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, self.handle_exit, sign, None)
        try:
            yield
        finally:
            for sign in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(sign)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _announce(self._settings, self._as_json)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.drain()
        await super().shutdown(sockets)


def _announce(settings: Settings, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": settings.url, "role": settings.role, "lightning": settings.lightning}), flush=True)
    else:
        print(welcome(settings), flush=True)


def welcome(settings: Settings) -> str:
    """What a newcomer does next."""
    lines = [f"pennypost serves {_served(settings)} at {settings.url}"]
    if settings.lightning == "play" and settings.role != "postoffice":
        lines.append("PLAY MONEY: invoices are not real and settle by themselves. Stamps are worth nothing.")
    last = "Stop with Ctrl-C. Settings: pennypost settings. Health: /healthz, /readyz, /metrics."
    if settings.role == "mint":
        return "\n".join([*lines, "Name it in PENNYPOST_MINT_URLS of a post office.", last])
    command = ".venv/bin/pennypost" if Path(".venv/bin/pennypost").exists() else "pennypost"
    office = "" if settings.url == "http://127.0.0.1:3338" else f" --office {settings.url}"
    lines += [
        "",
        "In a second terminal:",
        f"  {command} keys new --home bob{office}",
        f"  {command} wallet buy 10 --home alice{office}",
        f'  {command} send <bob\'s npub> "hello Bob" --home alice{office}',
        f"  {command} inbox --home bob{office}",
        "",
        last,
    ]
    return "\n".join(lines)


def _served(settings: Settings) -> str:
    return {"all": "mint and post office", "mint": "the mint", "postoffice": "the post office"}[settings.role]
