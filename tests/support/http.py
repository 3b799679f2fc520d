"""A small HTTP/1.1 server on loopback, in the test's own loop: what it answers is one function of the test."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port


@dataclass(frozen=True)
class Request:
    """What was asked; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[Request], Awaitable[tuple[int, Any]]]
"""Status and body of the answer: bytes, an asynchronous iterator of bytes (said to be 100,000), or a value as JSON."""


class HttpServer:
    """Serves `answer` on a port that stays the same when it is started again."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self._answer, self._tls = answer, tls
        self.port = free_port()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._running = asyncio.Event()
        self._running.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)

    async def stop(self) -> None:
        """As a killed process: every connection is cut."""
        if self._server is not None:
            self._server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def freeze(self) -> None:
        """Connections are taken, and nothing is answered."""
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while request := await _read(reader):
                await self._running.wait()
                status, body = await self._answer(request)
                await _write(writer, status, body)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


async def _write(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
    if isinstance(body, AsyncIterator):
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 100000\r\n\r\n".encode())
        async for part in body:
            writer.write(part)
            await writer.drain()
        return
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()


@dataclass(frozen=True)
class Certificates:
    """Files of a certificate authority and of a server that it signed for, as Core Lightning makes them."""

    ca: Path
    server: Path
    context: ssl.SSLContext


def certificates(folder: Path, *names: str, address: str | None = None) -> Certificates:
    """A new authority that names `names`, and a server certificate for them and `address`."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    hosts: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a node's own authority")])
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, hosts, authority=True)
    if address:
        hosts = [*hosts, x509.IPAddress(ipaddress.ip_address(address))]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a node")])
    server = _certificate(name, ca_name, key, ca_key, hosts, authority=False)
    files = Certificates(folder / "ca.pem", folder / "server.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files.server.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    files.context.load_cert_chain(files.server, folder / "key.pem")
    return files


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    hosts: list[x509.GeneralName],
    *,
    authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(signer, hashes.SHA256())
