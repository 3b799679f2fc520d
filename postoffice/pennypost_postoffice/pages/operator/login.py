"""The page of whoever is not signed in."""

from __future__ import annotations

from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator.gate import LOGIN
from pennypost_postoffice.pages.operator.view import button, notice


def page(link: str, problem: str, *, keys: bool, url: str) -> Html:
    """`link`: the secret of a link that was followed, "" without one; `keys`: operators may sign in by
    their key, for the address `url`."""
    said = notice(problem, "warn", role="alert") if problem else None
    if link:
        use = tag(
            "form",
            tag("input", type="hidden", name="link", value=link),
            button("Sign in", primary=True),
            method="post",
            action=LOGIN,
            class_="buttons",
        )
        text = "This link signs this browser in for two hours. It is good once."
        return _panel(said, tag("p", text), use)
    shell = [
        tag("p", "On the machine of the office, with its settings:"),
        tag("pre", tag("code", "pennypost office login")),
        tag("p", "prints a link that is good once, for ten minutes."),
    ]
    by_key = [
        tag("h2", "With an operator’s key"),
        tag("p", "A browser extension that keeps your Nostr key signs for this address (NIP-98)."),
        tag(
            "p",
            tag("button", "Sign in with an extension", type="button", id="sign", hidden=True, data_url=url),
            class_="buttons",
        ),
        tag("p", "No such extension is found in this browser.", id="none", class_="soft"),
        tag("p", "", id="problem", role="alert"),
    ]
    again = tag(
        "p", "Signed in already, and come from another site? ", tag("a", "Go on", href="/operator"), ".", class_="soft"
    )
    return _panel(said, *shell, *(by_key if keys else ()), again)


def _panel(said: Html | None, *what: Html) -> Html:
    return inside([tag("div", tag("h1", "For the operator"), said, *what, class_="panel narrow")])
