"""A real HTTPS server for tests, with a certificate authority of its own."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Answer = tuple[int, bytes, dict[str, str]]
"""Status, body, headers."""


class HttpsServer:
    """Serves this machine's loopback names; `authority` is the PEM file to trust for it. Close it."""

    def __init__(self, folder: Path) -> None:
        self.authority, chain = _certificates(folder)
        self.asked: list[str] = []
        """Paths, in order."""
        self.answer: Callable[[str], Answer] = lambda path: (404, b"", {})
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                status, body, headers = server.answer(self.path)
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


def _certificates(folder: Path) -> tuple[Path, Path]:
    """The authority's certificate, and the server's with its key."""
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=1)
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])

    def begun(subject: x509.Name, of: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(of.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(until)

    authority = begun(issuer, root).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = begun(x509.Name([]), key).add_extension(x509.SubjectAlternativeName(names), critical=True)
    files = folder / "authority.pem", folder / "server.pem"
    files[0].write_bytes(authority.sign(root, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files[1].write_bytes(secret + server.sign(root, hashes.SHA256()).public_bytes(Encoding.PEM))
    return files
