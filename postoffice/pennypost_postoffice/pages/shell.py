"""The frame of every page: head, brand, ways to the other pages, foot.

Text that comes from settings or strangers goes through `html.escape`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.metadata import version

from pennypost_postoffice.pages.assets import asset_url
from pennypost_postoffice.pages.markup import Html

PLACES = (("/", "Office"), ("/buy", "Buy stamps"), ("/buy/check", "Check a token"))
"""Where the head leads: paths and their names."""


def document(
    *,
    name: str,
    title: str,
    main: Html,
    here: str,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    places: Sequence[tuple[str, str]] = PLACES,
    description: str = "",
    note: str = "No cookies, no third parties",
) -> bytes:
    """A whole page in UTF-8.

    `name`: of the office. `title`: of the page. `main`: markup of the page itself. `here`: its path, marked among
    `places`. `note`: at the foot. `styles` and `scripts`: names of built files beside base.css ("buy.css", "buy.js").
    """
    sheets = "".join(f'<link rel="stylesheet" href="{asset_url(each)}">\n' for each in ("base.css", *styles))
    modules = "".join(f'<script type="module" src="{asset_url(each)}"></script>\n' for each in scripts)
    links = "".join(
        f'<a href="{path}"{" aria-current=page" if path == here else ""}>{escape(label)}</a>' for path, label in places
    )
    about = f'<meta name="description" content="{escape(description)}">\n' if description else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" media="(prefers-color-scheme: light)" content="#f7f4ee">
<meta name="theme-color" media="(prefers-color-scheme: dark)" content="#171412">
{about}<title>{escape(title)} · {escape(name)}</title>
<link rel="icon" type="image/svg+xml" href="{asset_url("stamp.svg")}">
{sheets}{modules}</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="head">
<a class="brand" href="/"><img src="{asset_url("stamp.svg")}" alt="" width="28" height="28">{escape(name)}</a>
<nav aria-label="Pages">{links}</nav>
</header>
<main id="main" tabindex="-1">
{main}
</main>
<footer class="foot"><ul>
<li>pennypost {escape(version("pennypost"))}</li>
<li>{escape(note)}</li>
<li><a href="{asset_url("licences.txt")}">Licences of the scripts</a></li>
</ul></footer>
</body>
</html>
""".encode()
