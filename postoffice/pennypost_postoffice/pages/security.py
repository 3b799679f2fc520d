"""The headers of every page: what its content may load and whom it may talk to."""

from __future__ import annotations

from collections.abc import Sequence

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
"""Content security policy: files of this origin, nothing inline, nothing from markup in strings, no frames."""


def security_headers(*, connect: Sequence[str] = (), forms: bool = False) -> dict[str, str]:
    """The headers of a page (names in lower case).

    `connect`: sources that its scripts may talk to beside this origin (`https://mint.example`, `wss:`). `forms`: it has
    forms that are sent to this origin.
    """
    policy = dict(POLICY)
    if connect:
        policy["connect-src"] = " ".join(["'self'", *connect])
    if forms:
        policy["form-action"] = "'self'"
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
