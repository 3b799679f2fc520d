"""A whole server with an encrypted seed: it starts with the passphrase alone; seed and keys can be read nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from pennypost.cli.exit_codes import exit_code
from pennypost.protocol.errors import SeedMismatch
from pennypost_mint.keyring import derive_keyset, derive_secret
from pennypost_mint.seed import read_seed, seal
from tests.support.server import Server
from tests.support.stamps import MintClient, output

WORDS = "correct horse battery staple"


def sealed(folder: Path, words: str = WORDS) -> dict[str, str]:
    """Settings with a passphrase by file."""
    (folder / "passphrase").write_text(words + "\n")
    return {"MINT_SEED_PASSPHRASE_FILE": str(folder / "passphrase")}


def test_a_wrong_passphrase_refuses_with_a_sentence(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(settings=sealed(tmp_path))
    server.stop()
    text = (tmp_path / "data" / "mint.seed").read_text()
    with pytest.raises(RuntimeError) as refused:
        serve(settings=sealed(tmp_path, "another passphrase"))
    assert "PENNYPOST_MINT_SEED_PASSPHRASE_FILE" in str(refused.value)
    assert "Traceback" not in str(refused.value) and "another passphrase" not in str(refused.value)
    with pytest.raises(RuntimeError, match="no passphrase is set"):
        serve()
    assert (tmp_path / "data" / "mint.seed").read_text() == text


def test_another_seed_refuses_with_a_sentence(serve: Callable[..., Server], tmp_path: Path) -> None:
    """The exit code is that of settings that do not allow a start; every file of the mint stays as it is."""
    server = serve()
    assert server.stop() == 0
    own, other = (tmp_path / "data" / "mint.seed").read_text().strip(), "5eed" * 16
    (tmp_path / "data" / "mint.seed").write_text(other + "\n")
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert len(before["pennypost.sqlite"]) > 10_000
    told = len(server.log.read_bytes())
    server.launch()
    with pytest.raises(RuntimeError, match=f"ended with {exit_code(SeedMismatch())}:"):
        server.wait_ready()
    said = server.log.read_bytes()[told:].decode()
    assert str(SeedMismatch()) in said and SeedMismatch.remedy in said
    assert "Traceback" not in said and other not in said and own not in said
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before


async def test_the_seed_is_nowhere(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Database, log, answers, metrics, environments and process lists of the server and its children."""
    server = serve(settings=sealed(tmp_path) | {"LOG": "json", "WORKERS": "2"})
    seed = read_seed(tmp_path / "data" / "mint.seed", WORDS)
    assert seed is not None
    told: list[bytes] = []
    async with MintClient(server.url) as mint, httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        stamps = await mint.buy(3)
        await mint.swap(stamps[:1], [output()])
        for path in ("/v1/info", "/v1/keys", "/v1/keysets", "/metrics", "/readyz", "/openapi.json", f"/{'x' * 64}"):
            told.append((await http.get(path)).content)
        told.append((await http.post("/v1/swap", content=b"\xff")).content)
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    assert len(family) >= 3
    for process in family:
        told += [" ".join(process.cmdline()).encode(), repr(process.environ()).encode()]
    server.stop()
    told.append(server.tail(1 << 24).encode())
    told += [path.read_bytes() for path in (tmp_path / "data").iterdir()]
    keyset = derive_keyset(seed, 0, "sat", active=True)
    secrets = [seed, derive_secret(seed, "identity"), *keyset.secrets.values()]
    assert sum(map(len, told)) > 50_000
    for text in told:
        assert WORDS.encode() not in text
        for secret in secrets:
            assert secret not in text and secret.hex().encode() not in text
    assert keyset.id.encode() in b"".join(told), "the search would have found it"
    assert seal(seed, WORDS) != (tmp_path / "data" / "mint.seed").read_text()
