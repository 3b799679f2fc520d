"""The node that the settings name: one line for each value of PENNYPOST_LIGHTNING."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pennypost_mint.lightning.cln import ClnNode
from pennypost_mint.lightning.lnd import LndNode
from pennypost_mint.lightning.nutshell import NutshellNode
from pennypost_mint.lightning.nwc import NwcNode
from pennypost_mint.lightning.play import PlayNode

if TYPE_CHECKING:
    from pathlib import Path

    from pennypost_mint.lightning import Lightning
    from pennypost_mint.runtime.database import Database
    from pennypost_mint.runtime.settings import Settings


def open_lightning(settings: Settings, database: Database) -> Lightning:
    """A node that nobody has asked yet. Raises ConfigurationError naming the setting that is missing or wrong."""
    match settings.lightning:
        case "play":
            return PlayNode(database, settings.settle_after)
        case "lnd":
            return LndNode.open(settings.lnd_url, settings.lnd_macaroon_file, settings.lnd_cert_file)
        case "cln":
            return ClnNode.open(settings.cln_url, settings.cln_rune.get_secret_value(), settings.cln_cert_file)
        case "nwc":
            return NwcNode.open(settings.nwc_uri.get_secret_value())
        case service:
            environment = _environment(settings)[service]
            return NutshellNode.open(database, settings.cashu_python, service, environment)


def _environment(settings: Settings) -> dict[str, dict[str, str | Path | None]]:
    """For each service of the cashu package: our setting, what the package calls it, and the value."""
    return {
        "lnbits": {
            "PENNYPOST_LNBITS_URL MINT_LNBITS_ENDPOINT": settings.lnbits_url,
            "PENNYPOST_LNBITS_KEY MINT_LNBITS_KEY": settings.lnbits_key.get_secret_value(),
        },
        "blink": {"PENNYPOST_BLINK_KEY MINT_BLINK_KEY": settings.blink_key.get_secret_value()},
        "strike": {"PENNYPOST_STRIKE_KEY MINT_STRIKE_KEY": settings.strike_key.get_secret_value()},
        "lndrpc": {
            "PENNYPOST_LND_RPC_ADDRESS MINT_LND_RPC_ENDPOINT": settings.lnd_rpc_address,
            "PENNYPOST_LND_MACAROON_FILE MINT_LND_RPC_MACAROON": settings.lnd_macaroon_file,
            "PENNYPOST_LND_CERT_FILE MINT_LND_RPC_CERT": settings.lnd_cert_file,
        },
    }
