"""Settings: where they come from, what refuses to start."""

from __future__ import annotations

from pathlib import Path

import pytest

from pennypost.protocol.errors import ConfigurationError
from pennypost_mint.runtime.settings import load_settings


def test_defaults_serve_play_money_on_loopback() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.lightning, settings.role) == ("127.0.0.1", 3338, "play", "all")
    assert settings.url == "http://127.0.0.1:3338"
    assert settings.seed_file == Path("data/mint.seed")


def test_environment_beats_file_and_options_beat_both(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("# comment\nPENNYPOST_PORT=1\nPENNYPOST_NAME = 'x'\n\nPENNYPOST_HOST=::1\n")
    environment = {"PENNYPOST_SETTINGS": str(file), "PENNYPOST_PORT": "2"}
    assert load_settings(environment).port == 2
    assert load_settings(environment).url == "http://[::1]:2"
    assert load_settings(environment, port=3, host=None).port == 3


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://u:secret@h/n\n")
    assert load_settings({"PENNYPOST_DATABASE_URL_FILE": str(file)}).database_url == "postgresql://u:secret@h/n"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"PENNYPOST_PROT": "1"}, "PENNYPOST_PORT"),
        ({"PENNYPOST_WHATEVER": "1"}, "PENNYPOST_WHATEVER"),
        ({"PENNYPOST_PORT": "65536"}, "PENNYPOST_PORT"),
        ({"PENNYPOST_PORT": "x"}, "PENNYPOST_PORT"),
        ({"PENNYPOST_ROLE": "both"}, "PENNYPOST_ROLE"),
        ({"PENNYPOST_PUBLIC_URL": "ftp://x"}, "PENNYPOST_PUBLIC_URL"),
        ({"PENNYPOST_PLAY_SETTLE_AFTER": "soon"}, "PENNYPOST_PLAY_SETTLE_AFTER"),
        ({"PENNYPOST_PLAY_SETTLE_AFTER": "."}, "PENNYPOST_PLAY_SETTLE_AFTER"),
        ({"PENNYPOST_TRUSTED_PROXIES": "proxy.example"}, "PENNYPOST_TRUSTED_PROXIES"),
        ({"PENNYPOST_TRUSTED_PROXIES": "10.0.0.1/8"}, "PENNYPOST_TRUSTED_PROXIES"),
        ({"PENNYPOST_RATE_LIMIT": "-1"}, "PENNYPOST_RATE_LIMIT"),
        ({"PENNYPOST_RATE_LIMIT": "nan"}, "PENNYPOST_RATE_LIMIT"),
        ({"PENNYPOST_RATE_BURST": "0"}, "PENNYPOST_RATE_BURST"),
        ({"PENNYPOST_MAX_OPEN_INVOICES": "0"}, "PENNYPOST_MAX_OPEN_INVOICES"),
        ({"PENNYPOST_SETTINGS": "/nowhere/at/all"}, "PENNYPOST_SETTINGS"),
        ({"PENNYPOST_DATABASE_URL_FILE": "/nowhere/at/all"}, "PENNYPOST_DATABASE_URL_FILE"),
    ],
)
def test_what_refuses_to_start_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment)
    assert named in caught.value.detail


def test_trusted_proxies_are_networks() -> None:
    assert load_settings({}).proxies == []
    settings = load_settings({"PENNYPOST_TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.7,2001:db8::/32"})
    assert [str(network) for network in settings.proxies] == ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]


def test_a_refusal_never_shows_the_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"PENNYPOST_LND_URL": "hunter2"})
    assert "hunter2" not in str(caught.value)


SECRETS = ("NWC_URI", "CLN_RUNE", "LNBITS_KEY", "BLINK_KEY", "STRIKE_KEY")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_by_a_file_and_is_shown_nowhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    for environment in ({f"PENNYPOST_{name}": "hunter2"}, {f"PENNYPOST_{name}_FILE": str(tmp_path / "secret")}):
        settings = load_settings(environment)
        assert getattr(settings, name.lower()).get_secret_value() == "hunter2"
        assert "hunter2" not in repr(settings) + str(settings.model_dump())


@pytest.mark.parametrize("address", ["https://x:1", "a b:1", "x", "x:", ":1", "user@x:1", "x:123456"])
def test_a_grpc_address_is_host_and_port(address: str) -> None:
    assert load_settings({"PENNYPOST_LND_RPC_ADDRESS": "[::1]:10009"}).lnd_rpc_address == "[::1]:10009"
    with pytest.raises(ConfigurationError):
        load_settings({"PENNYPOST_LND_RPC_ADDRESS": address})


@pytest.mark.parametrize("line", ["PORT=1", "PENNYPOST_PORT", "PENNYPOST_PROT=1"])
def test_a_bad_line_of_the_file_refuses_to_start(tmp_path: Path, line: str) -> None:
    file = tmp_path / "settings"
    file.write_text(line)
    with pytest.raises(ConfigurationError):
        load_settings({"PENNYPOST_SETTINGS": str(file)})


def test_names_of_the_client_are_not_settings() -> None:
    assert load_settings({"PENNYPOST_HOME": "x", "PENNYPOST_OFFICE": "y"}).port == 3338
