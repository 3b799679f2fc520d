"""Every setting of both servers, in one table; the reference page is generated from it.

A value comes from the environment, from `<NAME>_FILE` (a file that holds a secret), or from the file named by
PENNYPOST_SETTINGS (lines NAME=value), in that order. An unknown PENNYPOST_ name refuses to start.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pennypost.protocol.errors import ConfigurationError, InvalidKey, StampMalformed
from pennypost.protocol.event import MAX_TAGS
from pennypost.protocol.nip19 import parse_public_key
from pennypost.protocol.proof import MAX_PROOFS as MOST_PROOFS
from pennypost.protocol.relay_info import MAX_MINTS
from pennypost.protocol.token import normal_mint
from pennypost_mint.runtime.limits import (
    COUNT_ROWS,
    KIB,
    MAX_CHANGE,
    MAX_EVENT,
    MAX_FILTERS,
    MAX_FRAME,
    MAX_LIMIT,
    MAX_PROOFS,
    MAX_SUBSCRIPTIONS,
    MOST_CHANGE,
    MOST_EVENT,
    SYNC_RECORDS,
    SYNC_TOTAL,
)

PREFIX = "PENNYPOST_"
CLIENT_NAMES = frozenset(
    {"HOME", "MINT", "OFFICE", "PASSPHRASE", "PASSPHRASE_FILE", "SETTINGS", "WALLET", "WALLET_FILE"}
)
"""Names with our prefix that are not server settings."""

MAX_PRICE_GRACE = 30 * 86_400
"""Longest grace of former prices, seconds; what ended before is forgotten."""

RELOADED = frozenset(
    {
        "operator_pages",
        *("name", "description", "contact", "operators", "price_file", "price_grace", "private_wraps", "sweep_every"),
        *("invoice_expiry", "max_mint", "max_open_invoices", "rate_limit", "rate_burst", "trusted_proxies"),
        *("max_message", "max_event", "max_tags", "max_ahead", "max_behind", "max_connections", "max_waiters"),
        *("max_subscriptions", "max_filters", "max_limit", "free_rate", "ephemeral_rate", "free_rows", "free_bytes"),
        *("all_free_rate", "all_ephemeral_rate", "read_cpu", "max_outgoing"),
        *("max_count", "max_sync", "all_sync", "max_proofs", "max_change"),
        *("unpriced_rate", "all_unpriced_rate", "unpriced_rows", "unpriced_bytes"),
    }
)
"""Settings that a running server takes on by `pennypost office reload` or SIGHUP; the others need a new start."""


class Settings(BaseSettings):
    """Settings of the mint and the post office."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    data_dir: Path = Field(Path("data"), description="Folder of the SQLite file and the mint's seed.")
    database_url: str = Field(
        "", description="PostgreSQL address, `postgresql://user@host/name`; empty: a SQLite file in the data folder."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(3338, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    public_url: str = Field(
        "", description="Address that wallets and clients use, `https://…`; empty: `http://<host>:<port>`."
    )
    role: Literal["all", "mint", "postoffice"] = Field("all", description="What this process serves.")
    workers: int = Field(
        0, ge=0, le=64, description="Processes that check signatures; 0: one for each core but one, at least one."
    )
    name: str = Field("pennypost", max_length=64, description="Name shown to wallets and clients.")
    description: str = Field(
        "A relay that takes a stamp with each letter: Cashu tokens of its mint, bought over Lightning.",
        max_length=1024,
        description="What the post office says of itself in its relay information.",
    )
    contact: str = Field("", max_length=256, description="How to reach the operator, shown to everyone.")
    mint_seed_file: Path | None = Field(None, description="The mint's seed; empty: `mint.seed` in the data folder.")
    mint_seed_passphrase: SecretStr = Field(
        SecretStr(""), description="Opens an encrypted seed file (`pennypost mint seed encrypt`); a secret."
    )
    keyset_version: int = Field(
        2,
        ge=1,
        le=2,
        description="Version of the ids of keysets made from now on (NUT-02): 1 for CDK wallets before 0.15.",
    )
    mint_urls: str = Field(
        "",
        description="Mints elsewhere whose stamps are taken, `https://…`, separated by commas; no other is ever asked.",
    )
    office_seed_file: Path | None = Field(
        None, description="Seed of what is earned at mints elsewhere; empty: `office.seed` in the data folder."
    )
    office_seed_passphrase: SecretStr = Field(
        SecretStr(""), description="Passphrase of that seed's file, which is made encrypted with it; a secret."
    )
    lightning: Literal["play", "lnd", "cln", "nwc", "lnbits", "blink", "strike", "lndrpc"] = Field(
        "play",
        description="Where stamps are paid: `play` money; an `lnd` or `cln` (Core Lightning) node; any wallet by `nwc` "
        "(Nostr Wallet Connect); or, through the cashu package, `lnbits`, `blink`, `strike` or LND's gRPC (`lndrpc`).",
    )
    play_settle_after: str = Field(
        "1", description="Seconds until a play-money invoice settles by itself; `never` waits for `pennypost play pay`."
    )
    play_public: bool | Literal["local"] = Field(
        False,
        description="Allow play money on an address that others can reach: PENNYPOST_HOST, or the host of"
        " PENNYPOST_PUBLIC_URL. `local`, for a container: listen there, and answer only who asks for localhost or an"
        " address of loopback.",
    )
    lnd_url: str = Field("", description="LND's REST address, `https://host:8080`.")
    lnd_macaroon_file: Path | None = Field(None, description="LND macaroon with the right to make and read invoices.")
    lnd_cert_file: Path | None = Field(None, description="LND's TLS certificate; it alone is trusted.")
    lnd_rpc_address: str = Field("", description="LND's gRPC address, `host:10009`, for `lndrpc`.")
    cln_url: str = Field("", description="Core Lightning's REST address (clnrest), `https://host:3010`.")
    cln_rune: SecretStr = Field(
        SecretStr(""), description="Rune that allows `invoice`, `listinvoices` and `waitanyinvoice`; a secret."
    )
    cln_cert_file: Path | None = Field(
        None, description="Core Lightning's `ca.pem` or `server.pem`; it alone is trusted."
    )
    nwc_uri: SecretStr = Field(
        SecretStr(""), description="Connection string of a wallet, `nostr+walletconnect://…`; a secret."
    )
    lnbits_url: str = Field("", description="LNbits' address, `https://host`.")
    lnbits_key: SecretStr = Field(SecretStr(""), description="Invoice/read key of an LNbits wallet; a secret.")
    blink_key: SecretStr = Field(SecretStr(""), description="API key of a Blink account (read and receive); a secret.")
    strike_key: SecretStr = Field(SecretStr(""), description="API key of a Strike account (invoices); a secret.")
    cashu_python: Path | None = Field(
        None,
        description="Python of an environment with the cashu package (`make cashu`), "
        "for `lnbits`, `blink`, `strike` and `lndrpc`.",
    )
    invoice_expiry: int = Field(3600, ge=60, le=604_800, description="Seconds an invoice can be paid.")
    max_mint: int = Field(100_000, ge=1, le=10_000_000, description="Most stamps in one purchase.")
    max_open_invoices: int = Field(
        10_000, ge=1, le=10_000_000, description="Most unpaid invoices at once; past it quotes are refused for a while."
    )
    rate_limit: float = Field(
        50.0,
        ge=0,
        le=1_000_000,
        description="Units a second that one source may spend on each kind of mint request: 25 for a quote, else 1 and"
        " 1 for each KiB of the body; 0: no limit.",
    )
    rate_burst: float = Field(
        10_000.0, ge=1, le=100_000_000, description="Units that a source may save up and spend at once."
    )
    trusted_proxies: str = Field(
        "",
        description="Networks of your reverse proxies, separated by commas; their X-Forwarded-For is believed,"
        " nobody else's.",
    )
    price_file: Path | None = Field(None, description="Price rules (TOML); empty: 1 sat an event.")
    price_grace: int = Field(
        48 * 3_600,
        ge=0,
        le=MAX_PRICE_GRACE,
        description="Seconds that a lower price of before is honoured, for clients read prices once a day; also after a"
        " restart. 0: never.",
    )
    operators: str = Field(
        "",
        description="Public keys (npub or hex), separated by commas, that manage the post office over HTTP (NIP-86).",
    )
    operator_pages: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Serve the operator's pages at `/operator`; `auto`: where the public address is https, or only this"
        " machine reaches the server. Without TLS `on` sends the session's cookie in clear.",
    )
    private_wraps: bool = Field(
        False, description="Serve gift wraps without a view tag only to their authenticated receiver (NIP-42)."
    )
    max_message: int = Field(
        MAX_FRAME,
        ge=16 * KIB,
        le=1024 * KIB,
        description="Bytes of one message to the post office, or of one HTTP body.",
    )
    max_event: int = Field(
        MAX_EVENT, ge=1 * KIB, le=MOST_EVENT, description="Bytes of one event's NIP-01 form; less than a message's."
    )
    max_tags: int = Field(MAX_TAGS, ge=1, le=MAX_TAGS, description="Tags of one event.")
    max_ahead: int = Field(
        900, ge=0, le=31_536_000, description="Seconds that an event's time may lie ahead of the server's clock."
    )
    max_behind: int = Field(
        0,
        ge=0,
        le=2**40,
        description="Seconds that an event's time may lie in the past; 0: any time. Gift wraps need two days.",
    )
    max_subscriptions: int = Field(
        MAX_SUBSCRIPTIONS, ge=1, le=10_000, description="Subscriptions of one connection; Keychat opens well over 20."
    )
    max_filters: int = Field(MAX_FILTERS, ge=1, le=1_000, description="Filters of one subscription.")
    max_limit: int = Field(
        MAX_LIMIT,
        ge=1,
        le=100_000,
        description="Stored events that one filter is answered with; also without a `limit`.",
    )
    max_count: int = Field(
        COUNT_ROWS,
        ge=1,
        le=10_000_000,
        description="Stored events that a COUNT looks at; past it it is refused (`query-too-large`).",
    )
    max_sync: int = Field(
        SYNC_RECORDS,
        ge=1,
        le=10_000_000,
        description="Stored events of one negentropy session (NIP-77); past it it is refused (`query-too-large`).",
    )
    all_sync: int = Field(
        SYNC_TOTAL,
        ge=1,
        le=100_000_000,
        description="Of all sessions of a process, some 150 bytes each; past it the source that holds most gives some"
        " up.",
    )
    max_proofs: int = Field(MAX_PROOFS, ge=1, le=MOST_PROOFS, description="Proofs of one stamp.")
    max_change: int = Field(
        MAX_CHANGE, ge=0, le=MOST_CHANGE, description="Blank outputs for change of one event; 0: no change is given."
    )
    max_connections: int = Field(
        20_000, ge=1, le=1_000_000, description="WebSocket connections at once; an idle one costs some 30 KB."
    )
    max_outgoing: int = Field(
        256 * 1024 * KIB,
        ge=64 * 1024 * KIB,
        le=2**50,
        description="Bytes that wait for the readers of all connections; past it the slowest are closed. A quarter of"
        " what memory the process may have.",
    )
    max_waiters: int = Field(
        20_000, ge=0, le=1_000_000, description="Readers that wait for the header feed at once, some 30 KB each."
    )
    free_rate: float = Field(
        2.0,
        gt=0,
        le=1_000_000,
        description="Stored events of free kinds (relay lists, key packages), and deletions, that one connection may"
        " send each second, and 25 times as many at once.",
    )
    ephemeral_rate: float = Field(
        50.0,
        gt=0,
        le=1_000_000,
        description="Ephemeral events that one connection may send each second, and ten times as many at once.",
    )
    all_free_rate: float = Field(
        50.0,
        gt=0,
        le=1_000_000,
        description="Stored events of free kinds that all connections of a process may send each second; past it the"
        " sources that sent most have the rate of one connection.",
    )
    all_ephemeral_rate: float = Field(1_000.0, gt=0, le=1_000_000, description="The same for ephemeral events.")
    free_rows: int = Field(
        100_000,
        ge=1,
        le=2**40,
        description="Stored events of free kinds, and free deletions, all together; the oldest go first.",
    )
    free_bytes: int = Field(
        256 * 1024 * KIB,
        ge=1024 * KIB,
        le=2**50,
        description="Bytes of these, all together.",
    )
    unpriced_rate: float = Field(
        5.0,
        gt=0,
        le=1_000_000,
        description="Letters that a price rule asks nothing for (`base = 0`, or work instead of a stamp) that one"
        " connection may send each second, and 25 times as many at once.",
    )
    all_unpriced_rate: float = Field(
        100.0,
        gt=0,
        le=1_000_000,
        description="The same for all connections of a process; past it the sources that sent most have the rate of"
        " one connection.",
    )
    unpriced_rows: int = Field(
        1_000_000,
        ge=1,
        le=2**40,
        description="Letters that a price rule asks nothing for, all together; past it more are refused"
        " (`quota-full`).",
    )
    unpriced_bytes: int = Field(2 * 1024**3, ge=1024 * KIB, le=2**50, description="Bytes of these, all together.")
    read_cpu: float = Field(
        0.6,
        gt=0,
        le=64,
        description="Seconds of CPU a second that one process gives to what no stamp pays (reads, refusals); past it"
        " the sources that took most wait.",
    )
    sweep_every: float = Field(60.0, gt=0, le=86_400, description="Seconds between two deletions of expired mail.")
    bus_url: SecretStr = Field(
        SecretStr(""),
        description="How processes on one database wake each other: `nats://…` or `tls://…`; empty: PostgreSQL's"
        " LISTEN/NOTIFY. May hold a password; a secret.",
    )
    log: Literal["text", "json"] = Field("text", description="Form of log lines on stderr.")

    @field_validator("play_settle_after")
    @classmethod
    def _seconds_or_never(cls, value: str) -> str:
        if value == "never":
            return value
        if not value.replace(".", "", 1).isascii() or not value.replace(".", "", 1).isdigit():
            raise ValueError("seconds, or never")
        return value

    @field_validator("lnd_rpc_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if value and not re.fullmatch(r"[^\s/@]+:[0-9]{1,5}", value):
            raise ValueError("host:port")
        return value

    @field_validator("public_url", "lnd_url", "cln_url", "lnbits_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("an address beginning with http:// or https://")
        return value.rstrip("/")

    @field_validator("mint_urls")
    @classmethod
    def _mints(cls, value: str) -> str:
        return ",".join(mints_in(value))

    @field_validator("operators")
    @classmethod
    def _keys(cls, value: str) -> str:
        return ",".join(keys_in(value))

    @field_validator("bus_url")
    @classmethod
    def _bus_address(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith(("nats://", "tls://")):
            raise ValueError("an address beginning with nats:// or tls://")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        try:
            networks_in(value)
        except ValueError:
            raise ValueError("networks separated by commas, such as 10.0.0.0/8, 192.0.2.7") from None
        return value

    @model_validator(mode="after")
    def _an_event_fits_its_message(self) -> Settings:
        if self.max_event >= self.max_message:
            raise ValueError("PENNYPOST_MAX_EVENT must be less than PENNYPOST_MAX_MESSAGE")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values come through load_settings alone, so that nothing is read behind the caller's back."""
        return (init_settings,)

    @property
    def seed_file(self) -> Path:
        """Where the mint's seed is kept."""
        return self.mint_seed_file or self.data_dir / "mint.seed"

    @property
    def office_seed(self) -> Path:
        """Where the seed of the treasury is kept."""
        return self.office_seed_file or self.data_dir / "office.seed"

    @property
    def mints(self) -> list[str]:
        """Addresses of mints elsewhere, in the order given."""
        return mints_in(self.mint_urls)

    @property
    def url(self) -> str:
        """The public address, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """Networks whose X-Forwarded-For is believed."""
        return networks_in(self.trusted_proxies)

    @property
    def settle_after(self) -> float | None:
        """Seconds until a play-money invoice settles by itself; None waits for `play pay`."""
        return None if self.play_settle_after == "never" else float(self.play_settle_after)


def keys_in(text: str) -> list[str]:
    """Public keys separated by commas, npub or hex, as hex. Raises ValueError."""
    try:
        return [parse_public_key(part.strip()).hex() for part in text.split(",") if part.strip()]
    except InvalidKey:
        raise ValueError("public keys, npub1… or 64 hex digits, separated by commas") from None


def networks_in(text: str) -> list[IPv4Network | IPv6Network]:
    """Networks separated by commas; an address alone is a network of one. Raises ValueError."""
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]


def mints_in(text: str) -> list[str]:
    """Addresses of mints separated by commas, in the form in which two can be compared.

    Stamps are money in a request: plain http is for this machine and for names that only a private network knows.
    Raises ValueError with the reason.
    """
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            url = normal_mint(part)
        except StampMalformed:
            raise ValueError("addresses of mints, https://…, separated by commas") from None
        host = urlsplit(url).hostname or ""
        if host.endswith(".onion"):
            raise ValueError("an onion address cannot be reached without a proxy of its own; name the mint by https")
        if url.startswith("http://") and not _is_private(host):
            raise ValueError("a mint elsewhere is reached by https")
        if url.partition("://")[2] in {each.partition("://")[2] for each in found}:
            raise ValueError("a mint is named twice")
        found.append(url)
    if len(found) > MAX_MINTS:
        raise ValueError(f"at most {MAX_MINTS} mints")
    return found


def _is_private(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".internal", ".local"))


def load_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, its files, and `overrides` (command-line options; None is not given).

    Raises ConfigurationError naming the setting, never its value.
    """
    env = os.environ if environment is None else environment
    values = _from_file(env.get(f"{PREFIX}SETTINGS")) | _from_environment(env)
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else PREFIX
        raise ConfigurationError(f"{name}: {_reason(first)}") from None


def _reason(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _from_environment(env: Mapping[str, str]) -> dict[str, str]:
    return _known({name[len(PREFIX) :]: value for name, value in env.items() if name.startswith(PREFIX)})


def _from_file(path: str | None) -> dict[str, str]:
    if not path:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("PENNYPOST_SETTINGS names a file that cannot be read") from None
    given: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().startswith(PREFIX):
            raise ConfigurationError(f"line {number} of the settings file is not PENNYPOST_NAME=value")
        given[name.strip()[len(PREFIX) :]] = value.strip().strip('"')
    return _known(given)


def _known(given: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in given.items():
        field = name.lower()
        if field in Settings.model_fields:
            values[field] = value
        elif field.endswith("_file") and field[:-5] in Settings.model_fields:
            try:
                values[field[:-5]] = Path(value).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise ConfigurationError(f"{PREFIX}{name} names a file that cannot be read") from None
        elif name not in CLIENT_NAMES:
            near = difflib.get_close_matches(field, Settings.model_fields, 1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise ConfigurationError(f"{PREFIX}{name} is not a setting{hint}")
    return {name: value for name, value in values.items() if value != ""}
