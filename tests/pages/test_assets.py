"""The pages' files over HTTP: kept for ever under a name with a hash, compressed, and answered to HEAD."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pennypost_postoffice.pages.assets import asset_url, assets
from tests.support.installed import PROJECT
from tests.support.server import Server


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("assets")
    with Server(folder) as server, httpx.Client(base_url=server.url, trust_env=False, timeout=10) as client:
        yield client


def test_every_file_is_served_as_it_was_built(http: httpx.Client) -> None:
    for name, asset in assets().items():
        assert re.fullmatch(r"[a-z]+-[A-Z0-9]{8}\.(css|js|svg|txt)", name)
        plain = http.get(f"/assets/{name}", headers={"accept-encoding": "identity"})
        assert (plain.status_code, plain.content) == (200, asset.body)
        assert "content-encoding" not in plain.headers
        packed = http.get(f"/assets/{name}", headers={"accept-encoding": "gzip, br"})
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", asset.body)
        assert gzip.decompress(asset.packed) == asset.body


def test_headers_and_conditions(http: httpx.Client) -> None:
    path = asset_url("base.css")
    found = http.get(path)
    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert found.headers["content-type"] == "text/css; charset=utf-8"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "accept-encoding" in found.headers["vary"]
    again = http.get(path, headers={"if-none-match": f'"other", {found.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    head = http.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", found.headers["etag"])


@pytest.mark.parametrize(
    "name", ["manifest.json", "base.css", "..%2f__init__.py", "%2e%2e/__init__.py", "", "a/b", "base-00000000.css"]
)
def test_nothing_else_is_served(http: httpx.Client, name: str) -> None:
    assert http.get(f"/assets/{name}").status_code == 404


@pytest.mark.parametrize("folder", ["built", "html"])
def test_what_pages_are_made_of_is_installed(installed: Path, folder: str) -> None:
    """The wheel has every built file and every piece of HTML, so that an operator needs no Node."""
    (package,) = installed.parent.glob("lib/*/site-packages/pennypost_postoffice/pages")
    source = PROJECT / "postoffice" / "pennypost_postoffice" / "pages"
    names = {each.name for each in (source / folder).iterdir()}
    assert names == {each.name for each in (package / folder).iterdir()}
    assert folder != "built" or set(assets()) | {"manifest.json"} == names
