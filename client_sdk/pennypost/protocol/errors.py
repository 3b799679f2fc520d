"""Every error a person or a program can meet, in one tree.

    PennypostError
    ├── InvalidInput       what was sent cannot be read          400  invalid:
    ├── StampError         the stamp is not good for this        400  blocked:
    ├── PolicyError        readable, but not accepted here       403  blocked: / restricted: / rate-limited:
    ├── MintError          a Cashu request refused               400  (NUT error codes)
    ├── ServerError        our fault, temporary                  503  error:
    └── ClientError        raised by the SDK on the user's side  –

The first paragraph of a class's docstring is the sentence the person reads; `remedy` says what to do
next. `code` is stable: programs match on it. `cashu` is the number in the NUT error-code list.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class PennypostError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    prefix: ClassVar[str] = "error"
    cashu: ClassVar[int] = 0
    remedy: ClassVar[str] = "Try again; if it persists, tell the operator."
    retry_after: int = 5
    """Seconds before the same request may go well, where the status is 429 or 503."""

    def __init__(self, detail: str = "") -> None:
        """`detail` is shown to the person: never put input, secrets, addresses or Python text into it."""
        super().__init__(detail)
        self.detail = detail

    @classmethod
    def sentence(cls) -> str:
        """The first paragraph of the docstring on one line, without its full stop."""
        paragraph = inspect.cleandoc(cls.__doc__ or "").split("\n\n", 1)[0]
        return " ".join(paragraph.split()).rstrip(".")

    def __str__(self) -> str:
        return f"{self.sentence()}: {self.detail}" if self.detail else self.sentence()

    def nip01(self) -> str:
        """The fourth element of an OK: `prefix: sentence; remedy [code]` (NIP-01, From relay to client)."""
        text = str(self)
        return f"{self.prefix}: {text[0].lower()}{text[1:]}. {self.remedy} [{self.code}]"

    def nut00(self) -> dict[str, str | int]:
        """The body of an HTTP refusal: `detail` for people, `code` of the NUTs' list (NUT-00, Errors)."""
        return {"detail": f"{self}. {self.remedy} [{self.code}]", "code": self.cashu}


class InvalidInput(PennypostError):
    """This cannot be read."""

    code, status, prefix, cashu = "invalid-input", 400, "invalid", 10000
    remedy = "Correct the request and send it again."


class InvalidFrame(InvalidInput):
    """Unparseable message."""

    code = "frame"
    remedy = "Send a JSON array whose first element is EVENT, REQ, COUNT, CLOSE, AUTH or NEG-OPEN."


class FrameTooLarge(InvalidInput):
    """The message is too large."""

    code, status = "too-large", 413
    remedy = "Keep to max_message_length of the relay information document."


class BodyTooLarge(InvalidInput):
    """The body of the request is too large."""

    code, status = "body-too-large", 413
    remedy = "Send at most 1 MiB; split the request."


class RpcUnparseable(InvalidInput):
    """This is not JSON."""

    code = "rpc-parse"
    remedy = "Send one JSON-RPC request in each text frame (NUT-17)."


class RpcInvalid(InvalidInput):
    """This is not a JSON-RPC request."""

    code = "rpc-request"
    remedy = "Send jsonrpc 2.0, method, params and an id (NUT-17)."


class RpcMethod(InvalidInput):
    """This method is not known."""

    code = "rpc-method"
    remedy = "Use subscribe or unsubscribe (NUT-17)."


class RpcParams(InvalidInput):
    """The parameters are not usable."""

    code = "rpc-params"
    remedy = "Send kind, subId and filters as NUT-17 describes and the mint's info announces."


class InvalidEvent(InvalidInput):
    """The event is malformed."""

    code = "event"
    remedy = "Sign a well-formed NIP-01 event; the stamp is still good."


class InvalidSignature(InvalidEvent):
    """The event's id or signature is wrong."""

    code = "signature"
    remedy = "Recompute the id and sign again; the stamp is still good."


class VanishElsewhere(InvalidEvent):
    """This request to vanish names another relay."""

    code = "vanish-relay"
    remedy = "Add a relay tag with this relay's address, or ALL_RELAYS, and sign again (NIP-62)."


class EventExpired(InvalidInput):
    """Expired: the event's kept time is over."""

    code = "expired"
    remedy = "Sign a new event with a later expiration; the stamp is still good."


class InvalidFilter(InvalidInput):
    """The filter is malformed."""

    code = "filter"
    remedy = "Send NIP-01 filters with known fields and values of the right type."


class InvalidSync(InvalidInput):
    """The negentropy message is malformed."""

    code = "sync"
    remedy = "Send a message of protocol version 1 in lower-case hex (NIP-77)."


class InvalidKey(InvalidInput):
    """This is not a usable key."""

    code = "key"
    remedy = "Use a secp256k1 key: 64 lower-case hex digits, npub or nsec."


class NameUnknown(InvalidKey):
    """Nobody has this name at its server."""

    code = "name-unknown"
    remedy = "Check how it is written, or ask them for their npub."


class InvalidInvoice(InvalidInput):
    """This is not a usable Lightning invoice."""

    code = "invoice"
    remedy = "Ask for a new invoice; nothing was paid."


class InvoiceMismatch(InvalidInput):
    """The invoice is not the one agreed on."""

    code = "invoice-mismatch"
    remedy = "Nothing was paid. Do not pay it elsewhere either; tell the one who sent it."


class InvalidOffer(InvalidInput):
    """The offer is malformed, or is not what it says."""

    code = "offer"
    remedy = "Nothing was paid. Ask the seller for it again."


class InvalidNotice(InvalidInput):
    """The notice cannot be read."""

    code = "notice"
    remedy = "Nothing was looked up. Copy the whole text beginning with ppn1, or ask the sender again."


class InvalidWalletLink(InvalidInput):
    """This is not a wallet connection."""

    code = "wallet-link"
    remedy = "Copy the whole of nostr+walletconnect://… from the wallet once more (NIP-47)."


class InvalidPayload(InvalidInput):
    """The encrypted content cannot be opened."""

    code = "payload"
    remedy = "It was not written for this key, or it was damaged; ask the sender to send it again."


class LetterTooLarge(InvalidInput):
    """The letter is longer than 16 KiB."""

    code, status = "letter-too-large", 413
    remedy = "Shorten it, or send a link to the rest; no stamp was used."


class FileUnusable(InvalidInput):
    """This file cannot be used."""

    code = "file"
    remedy = "Name another one, or correct it; what is in the database is untouched."


class BackupUnusable(InvalidInput):
    """This is not a whole backup of a mint."""

    code = "backup"
    remedy = "Use another copy; `pennypost mint verify-backup` tells which are good. Nothing was changed."


class PassphraseUnusable(InvalidInput):
    """This passphrase cannot be used."""

    code = "passphrase"
    remedy = "Type one of 12 characters or more, twice the same, or name a file that holds it. Nothing was changed."


class ReferenceTaken(InvalidInput):
    """This reference was used for another number of stamps."""

    code = "reference"
    remedy = "Repeat it with the same number for the same token, or choose another reference. Nothing was issued."


class StampError(PennypostError):
    """Invalid stamp."""

    code, status, prefix, cashu = "stamp", 400, "blocked", 10001
    remedy = "Attach another stamp; this one was not taken."


class StampRequired(StampError):
    """Stamp required."""

    code, status = "stamp-required", 402
    remedy = "Buy a stamp and send the event again with it."


class StampMalformed(StampError):
    """Invalid stamp: malformed."""

    code = "stamp-malformed"
    remedy = "Send a cashuA or cashuB token; this one was not taken."


class StampWrongMint(StampError):
    """Invalid stamp: wrong mint."""

    code = "stamp-mint"
    remedy = "Use stamps of the mints named in the relay information document; this one was not taken."


class StampWrongUnit(StampError):
    """Invalid stamp: wrong unit."""

    code = "stamp-unit"
    remedy = "Use stamps of unit sat; this one was not taken."


class StampUnknownKeyset(StampError):
    """Invalid stamp: unknown keyset."""

    code, cashu = "stamp-keyset", 12001
    remedy = "Refresh the mint's keysets and use a stamp of one of them; this one was not taken."


class StampExpired(StampError):
    """Invalid stamp: its keyset has expired."""

    code, cashu = "stamp-expired", 12003
    remedy = "Use a stamp of a newer keyset; those of this one can no longer be used."


class StampLocked(StampError):
    """Invalid stamp: locked to someone else."""

    code = "stamp-locked"
    remedy = "Use an unlocked stamp, or one locked to this office's key alone; this one was not taken."


class StampTooLittle(StampError):
    """Invalid stamp: too little."""

    code = "stamp-too-little"
    remedy = "Attach stamps worth the price; these were not taken."


class StampForged(StampError):
    """Invalid stamp: forged."""

    code = "stamp-forged"
    remedy = "Use a stamp signed by this mint."


class StampRefused(StampError):
    """Invalid stamp: its mint does not take it."""

    code = "stamp-refused"
    remedy = "Use another stamp; this one was not taken."


class StampSpent(StampError):
    """Invalid stamp: already spent."""

    code, cashu = "stamp-spent", 11001
    remedy = "Use another stamp; the event was not stored."


class PolicyError(PennypostError):
    """Not accepted here."""

    code, status, prefix = "policy", 403, "blocked"
    remedy = "See the relay information document; the stamp is still good."


class EventDeleted(PolicyError):
    """Deleted: this event was deleted by its author."""

    code, status = "deleted", 410
    remedy = "Sign a new event; the stamp is still good."


class EventTooFarAhead(PolicyError):
    """The event's time is too far in the future."""

    code, prefix = "future", "invalid"
    remedy = "Set the clock right and sign again; the stamp is still good."


class EventTooOld(PolicyError):
    """The event's time is too long ago."""

    code, prefix = "past", "invalid"
    remedy = "Sign it anew with the time of now; the stamp is still good."


class TooLong(PolicyError):
    """The event asks to be kept longer than this office keeps mail."""

    code = "ttl"
    remedy = "Choose an earlier expiration; the stamp is still good."


class KindRefused(PolicyError):
    """This kind of event is not accepted."""

    code, prefix = "kind", "blocked"
    remedy = "Send another kind; the stamp is still good."


class Newer(PolicyError):
    """Have a newer one: a later version of this replaceable event is stored."""

    code, prefix = "newer", "duplicate"
    remedy = "Fetch the stored one; the stamp is still good."


class Banned(PolicyError):
    """The operator does not take this event, or anything of its author."""

    code, prefix = "banned", "blocked"
    remedy = "Use another office; your stamp is untouched and still good."


class NotAllowed(PolicyError):
    """You may not do this."""

    code, prefix = "not-allowed", "restricted"
    remedy = "Only the author may do this; nothing was taken."


class AuthRequired(PolicyError):
    """Authentication is needed for this."""

    code, status, prefix = "auth", 401, "auth-required"
    remedy = "Answer the AUTH challenge (NIP-42) and repeat the request; nothing was taken."


class NotReceiver(PolicyError):
    """These gift wraps are for somebody else."""

    code, prefix = "not-receiver", "restricted"
    remedy = "Authenticate as their receiver (NIP-42) and repeat the request."


class AuthInvalid(PolicyError):
    """The AUTH event does not fit this relay or this challenge."""

    code, status, prefix = "auth-invalid", 401, "invalid"
    remedy = "Sign a fresh kind 22242 event with this relay's address and the last challenge."


class TooManyKeys(PolicyError):
    """Too many keys answered this connection's challenge."""

    code, status, prefix = "auth-keys", 429, "restricted"
    remedy = "Open another connection for further keys."


class HttpAuthInvalid(PolicyError):
    """The request is not signed by a key that may ask this.

    NIP-98.
    """

    code, status, prefix = "http-auth", 401, "restricted"
    remedy = "Sign a fresh kind 27235 event with address, method and payload hash, by a key of PENNYPOST_OPERATORS."


class SignInNeeded(PolicyError):
    """This is for the operator, and nobody is signed in."""

    code, status, prefix = "sign-in", 401, "restricted"
    remedy = "Sign in at /operator/login: with a link of `pennypost office login`, or with an operator's key (NIP-98)."


class LinkInvalid(SignInNeeded):
    """This link signs nobody in."""

    code = "link"
    remedy = "A link is good once, for ten minutes: make another with `pennypost office login`."


class FormRefused(PolicyError):
    """This form was not sent from a page of this office."""

    code, prefix = "form", "restricted"
    remedy = "Open the page again and send it from there; nothing was changed."


class NobodyListening(PolicyError):
    """Nobody is listening: an ephemeral event is not kept."""

    code, status, prefix = "mute", 404, "mute"
    remedy = "Nothing to do; ephemeral events are never stamped."


class TooMany(PolicyError):
    """Too many requests."""

    code, status, prefix = "rate-limited", 429, "rate-limited"
    remedy = "Wait a little and repeat the same request; nothing was taken."


class TooManySubscriptions(PolicyError):
    """Too many subscriptions on this connection."""

    code, status, prefix = "subscriptions", 429, "rate-limited"
    remedy = "Close some subscriptions first."


class HoldWrong(PolicyError):
    """This does not open the hold."""

    code, prefix = "hold-wrong", "invalid"
    remedy = "Send the preimage of the payment and the id of the request or offer, 64 hex digits each."


class HoldUnknown(PolicyError):
    """Nothing is held under this tag."""

    code, status, prefix = "hold-unknown", 404, "invalid"
    remedy = "Ask the office where it was posted; what was not released by its expiry is deleted."


class HoldFull(PolicyError):
    """Too many events are held under this tag."""

    code, status = "hold-full", 409
    remedy = "Release it first, or hold this event under another tag; the stamp is still good."


class QuotaFull(PolicyError):
    """This office has no room for more letters that cost nothing."""

    code, status, prefix = "quota-full", 503, "error"
    remedy = "Send the same event again tomorrow, or to another post office; nothing was taken."
    retry_after = 3_600


class QueryTooLarge(PolicyError):
    """Too many events fit this query."""

    code = "query-too-large"
    remedy = "Narrow the filter: name authors, kinds or tags, or a shorter time."


class TooManySyncs(PolicyError):
    """Too many negentropy sessions."""

    code, status, prefix = "syncs", 429, "rate-limited"
    remedy = "End some with NEG-CLOSE, or wait a little."


class SyncClosed(PolicyError):
    """The negentropy session was idle too long, or was never opened."""

    code, status, prefix = "sync-closed", 408, "closed"
    remedy = "Begin again with NEG-OPEN."


class WorkRequired(PolicyError):
    """Proof of work is needed for this."""

    code, prefix = "work", "pow"
    remedy = "Mine a nonce tag that commits to that difficulty (NIP-13) and sign again; the stamp is still good."


class NotFound(PolicyError):
    """There is nothing here."""

    code, status, prefix = "not-found", 404, "invalid"
    remedy = "Check the address."


class PlayMoneyAtHome(PolicyError):
    """Play money is served to this machine alone."""

    code, prefix = "play-money", "restricted"
    remedy = "Ask as http://127.0.0.1; the operator can take real payments, or set PENNYPOST_PLAY_PUBLIC=true."


class MintError(PennypostError):
    """The mint refuses this request."""

    code, status, prefix, cashu = "mint", 400, "invalid", 10000
    remedy = "Correct the request; no proof was spent."


class ProofInvalid(MintError):
    """Proof could not be verified."""

    code, cashu = "proof-invalid", 10001
    remedy = "Use proofs signed by this mint; nothing was spent."


class ProofLocked(ProofInvalid):
    """The proof is locked, and its witness does not unlock it."""

    code = "proof-locked"
    remedy = "Unlock it with the keys or the preimage it is locked to (NUT-11, NUT-14); nothing was spent."


class LockMalformed(ProofInvalid):
    """The spending condition is malformed: nobody can spend what it locks."""

    code = "lock-malformed"
    remedy = "Make spending conditions as NUT-11 and NUT-14 describe them; nothing was spent."


class OutputInvalid(MintError):
    """An output is malformed."""

    code, cashu = "output-invalid", 10001
    remedy = "Send amount, keyset id and B_ of each output as NUT-00 describes; nothing was spent."


class ProofSpent(MintError):
    """Proofs already spent."""

    code, cashu = "proof-spent", 11001
    remedy = "Check the state of your proofs and use unspent ones."


class ProofPending(MintError):
    """Proofs are pending."""

    code, cashu = "proof-pending", 11002
    remedy = "Wait and repeat the same request."


class OutputSigned(MintError):
    """Outputs already signed."""

    code, cashu = "output-signed", 11003
    remedy = "Restore these outputs, or make new ones; nothing was spent."


class Unbalanced(MintError):
    """Inputs and outputs do not balance."""

    code, cashu = "unbalanced", 11005
    remedy = "Make the outputs add up to the inputs; nothing was spent."


class AmountInvalid(MintError):
    """The amount is not one this mint can use."""

    code, cashu = "amount", 11006
    remedy = "Use whole amounts within the limits of the mint's info; nothing was spent."


class DuplicateInputs(MintError):
    """Duplicate inputs."""

    code, cashu = "duplicate-inputs", 11007
    remedy = "Name each proof once; nothing was spent."


class DuplicateOutputs(MintError):
    """Duplicate outputs."""

    code, cashu = "duplicate-outputs", 11008
    remedy = "Make each output once; nothing was spent."


class MixedUnits(MintError):
    """Inputs or outputs of several units."""

    code, cashu = "mixed-units", 11009
    remedy = "Use one unit in a request; nothing was spent."


class UnitMismatch(MintError):
    """Inputs and outputs are not of the same unit."""

    code, cashu = "unit-mismatch", 11010
    remedy = "Use one unit in a request; nothing was spent."


class UnitUnknown(MintError):
    """Unit is not supported."""

    code, cashu = "unit-unknown", 11013
    remedy = "This mint sells unit sat."


class TooManyInputs(MintError):
    """Too many inputs."""

    code, cashu = "too-many-inputs", 11014
    remedy = "Split the request; nothing was spent."


class TooManyOutputs(MintError):
    """Too many outputs."""

    code, cashu = "too-many-outputs", 11015
    remedy = "Split the request; nothing was spent."


class DuplicateQuotes(MintError):
    """Duplicate quote ids."""

    code, cashu = "duplicate-quotes", 11016
    remedy = "Name each quote once; nothing was issued."


class BatchTooLarge(MintError):
    """Too many quotes in one batch."""

    code, cashu = "batch-too-large", 11017
    remedy = "Keep to max_batch_size of the mint's info; nothing was issued."


class KeysetUnknown(MintError):
    """Keyset is not known."""

    code, cashu = "keyset-unknown", 12001
    remedy = "Refresh the mint's keysets."


class KeysetInactive(MintError):
    """Keyset is inactive, cannot sign messages."""

    code, cashu = "keyset-inactive", 12002
    remedy = "Refresh the mint's keysets and make outputs for the active one; nothing was spent."


class KeysetExpired(MintError):
    """Keyset has expired."""

    code, cashu = "keyset-expired", 12003
    remedy = "Proofs of this keyset can no longer be used."


class QuoteUnpaid(MintError):
    """Quote request is not paid."""

    code, cashu = "quote-unpaid", 20001
    remedy = "Pay the invoice, then repeat the request."


class QuoteIssued(MintError):
    """Quote has already been issued."""

    code, cashu = "quote-issued", 20002
    remedy = "Restore the outputs of the first request (NUT-09)."


class MintingDisabled(MintError):
    """Minting is disabled."""

    code, cashu = "minting-disabled", 20003
    remedy = "This mint sells no more stamps; those already sold stay good."


class QuoteExpired(MintError):
    """Quote is expired."""

    code, cashu = "quote-expired", 20007
    remedy = "Ask for a new quote; a payment already made stays claimable."


class QuoteSignature(MintError):
    """Signature for mint request invalid."""

    code, cashu = "quote-signature", 20008
    remedy = "Sign the quote id and outputs with the quote's key (NUT-20)."


class QuotePubkey(MintError):
    """Pubkey for mint quote invalid."""

    code, cashu = "quote-pubkey", 20009
    remedy = "Send a compressed public key, 66 lower-case hex digits."


class QuoteUnknown(MintError):
    """No such quote."""

    code, cashu = "quote-unknown", 20010
    remedy = "Check the quote id."


class MeltDisabled(MintError):
    """This mint sells stamps and does not buy them back."""

    code, status = "melt-disabled", 404
    remedy = "Spend stamps at the post office."


class ServerError(PennypostError):
    """Something failed on our side."""

    code, status, prefix = "server", 500, "error"
    remedy = "Retry with the same stamp; repeating is safe."


class DatabaseUnavailable(ServerError):
    """The database is not available."""

    code, status = "database", 503
    remedy = "Retry with the same stamp in a few seconds; repeating is safe."


class FeedFull(ServerError):
    """Too many readers wait for the header feed."""

    code, status = "feed-full", 503
    remedy = "Ask again without wait, every few seconds."


class Overloaded(ServerError):
    """Too busy just now."""

    code, status = "overloaded", 503
    remedy = "Retry with the same stamp in a few seconds; repeating is safe."


class ShuttingDown(ServerError):
    """This process is about to stop."""

    code, status = "stopping", 503
    remedy = "Ask another process of this office, or this one in a minute."


class TooManyInvoices(ServerError):
    """Too many invoices are waiting to be paid."""

    code, status, cashu = "invoices", 503, 20000
    remedy = "Ask for the invoice again in a minute; nothing was made."
    retry_after = 60


class WorkerFailed(ServerError):
    """A calculation failed on our side."""

    code = "worker"


class MintAway(ServerError):
    """The mint of this stamp does not answer."""

    code, status = "mint-away", 503
    remedy = "Retry with the same stamp in a minute, or use one of another mint; repeating is safe."


class MintMisbehaves(ServerError):
    """The mint of this stamp answers what the protocol does not allow."""

    code, status = "mint-misbehaves", 502
    remedy = "Retry with the same stamp later, or use one of another mint; repeating is safe."


class LightningUnavailable(ServerError):
    """The Lightning node does not answer."""

    code, status, cashu = "lightning", 503, 20000
    remedy = "Retry in a few seconds; nothing was paid."


class BooksOff(ServerError):
    """The mint's books do not balance."""

    code = "books"
    remedy = "Stop selling (`pennypost mint sunset`) and find out why: docs/how-to/operate-a-mint.md."


class TooManyBans(ServerError):
    """There are as many bans as this office keeps."""

    code, status = "bans", 409
    remedy = "Take some away (pennypost office unban), or ask a stamp of these kinds instead."


class ConfigurationError(ServerError):
    """The settings do not allow a start."""

    code = "configuration"
    remedy = "Correct the setting named; `pennypost settings` lists them all."


class SeedMismatch(ConfigurationError):
    """This seed did not make the keysets in the database."""

    code = "seed"
    remedy = "Start with the seed file this mint was made with; a backup of it opens the database."


class DatabaseInUse(ConfigurationError):
    """The database is not empty."""

    code = "database-in-use"
    remedy = "Restore into a new, empty database: `pennypost db upgrade` makes one. Nothing was changed."


class BackupTooOld(ConfigurationError):
    """This backup is older than the last stamps that this mint took or sold."""

    code = "backup-old"
    remedy = (
        "Restore a newer one. With --accept-double-spending every stamp spent since can be spent again, "
        "and what was bought and paid since is unknown. Nothing was changed."
    )


class MintNotStarted(ConfigurationError):
    """No mint was ever started on this database."""

    code = "no-mint"
    remedy = "Check that the settings name its data folder and its database; `pennypost up` starts a new one."


class OfficeNotStarted(ConfigurationError):
    """No post office was ever started on this database."""

    code = "no-office"
    remedy = "Check that the settings name its data folder and its database; `pennypost up` starts a new one."


class SchemaMismatch(ConfigurationError):
    """The database is not at the schema of this program."""

    code = "schema"
    remedy = "Run `pennypost db upgrade` with this version of the program."


class SeedLocked(ConfigurationError):
    """The passphrase does not open the mint's seed file."""

    code = "seed-locked"
    remedy = "Name a file with the right one in PENNYPOST_MINT_SEED_PASSPHRASE_FILE."


class OfficeSeedLocked(SeedLocked):
    """The passphrase does not open the office's seed file."""

    code = "office-seed-locked"
    remedy = "Name a file with the right one in PENNYPOST_OFFICE_SEED_PASSPHRASE_FILE."


class ClientError(PennypostError):
    """The request could not be done."""

    code, prefix = "client", "error"
    remedy = "See the sentence before this one."


class NotEnoughStamps(ClientError):
    """Not enough stamps."""

    code, status = "no-stamps", 402
    remedy = "Buy some: pennypost wallet buy 10."


class OfficeUnreachable(ClientError):
    """The post office does not answer."""

    code, status = "unreachable", 503
    remedy = "Check the address and the network; repeating is safe."


class OfficeMisbehaves(ClientError):
    """The other side answered what the protocol does not allow."""

    code, status = "misbehaves", 502
    remedy = "Nothing was lost; try another office, or tell its operator."


class PaymentTimeout(ClientError):
    """The invoice has not been paid yet."""

    code, status = "unpaid", 402
    remedy = "Pay it and run the same command again: the purchase is kept and claimed then."


class WalletError(ClientError):
    """The Lightning wallet did not do it."""

    code, status = "wallet", 502
    remedy = "Nothing was paid. Look at the wallet's own app, or use another wallet."


class NoWallet(WalletError):
    """No Lightning wallet is connected."""

    code, status = "no-wallet", 400
    remedy = "Name one: --nwc with its connection string, or PENNYPOST_WALLET_FILE."


class WalletUnreachable(WalletError):
    """The Lightning wallet does not answer."""

    code, status = "wallet-unreachable", 503
    remedy = "Check that it is running and online; repeating is safe."


class WalletRefuses(WalletError):
    """The Lightning wallet refuses this."""

    code = "wallet-refuses"
    remedy = "Nothing was paid. Check the rights and the budget of this connection in the wallet."


class WalletCannot(WalletError):
    """The Lightning wallet cannot do this."""

    code, status = "wallet-cannot", 501
    remedy = (
        "Nothing was paid. Use a wallet that can, such as LND; docs/how-to/lightning-wallet.md lists what each can."
    )


class PaymentFailed(WalletError):
    """The payment did not go through."""

    code, status = "payment-failed", 402
    remedy = "Nothing was paid. Try again later, or from a wallet with more funds or better routes."


class PaymentUnknown(WalletError):
    """Whether the payment went through is not known yet."""

    code, status = "payment-unknown", 504
    remedy = "Run the same command again: it asks the wallet what became of it, and never pays twice."


class AlreadyPaid(WalletError):
    """This payment hash was paid before."""

    code, status = "already-paid", 409
    remedy = "Nothing was paid. One payment hash is paid once, ever; ask for a fresh invoice."


class AmountTooHigh(ClientError):
    """More is asked than you allow."""

    code, status = "amount", 402
    remedy = "Nothing was paid. Allow more (--most), or do without."


class CommentTooShort(ClientError):
    """The receiver takes no comment long enough for a notice."""

    code, status = "comment", 422
    remedy = "Nothing was posted or paid. Tell him the notice another way: leave out --pay, and hand him the text."


class OfferExpired(ClientError):
    """The time to pay for this is over."""

    code, status = "offer-expired", 410
    remedy = "Nothing was paid. Ask the seller for a fresh one."


class NotAnswered(ClientError):
    """There is no answer yet."""

    code, status = "not-answered", 504
    remedy = "Run the same command again: it goes on where it stopped, and pays once."


class GarbageProof(ClientError):
    """What was paid for is not what the seller had signed."""

    code, status = "garbage", 502
    remedy = "Keep the evidence and show it: anyone can check it with `pennypost offer judge`."

    def __init__(self, detail: str = "", evidence: str = "") -> None:
        """`evidence` (ppg1…) holds the seller's signature and opens nothing else of yours."""
        super().__init__(detail)
        self.evidence = evidence


class ChannelUnknown(ClientError):
    """This home has no such channel."""

    code = "channel"
    remedy = "`pennypost channel list` shows them; read once more, or ask to be invited."


class NotChannelOwner(ClientError):
    """Only whoever made the channel can do this."""

    code = "channel-owner"
    remedy = "Ask its owner."


class NotChannelPoster(ClientError):
    """You may read this channel, and not post in it."""

    code = "channel-poster"
    remedy = "Ask its owner, or write to its drop box."


class NoSession(ClientError):
    """Nothing is known of this person's devices."""

    code = "no-session"
    remedy = "Ask them for `pennypost session publish`, or for their word (`pennypost session word`)."


class SessionsMissing(ClientError):
    """Sessions are not installed."""

    code = "sessions-missing"
    remedy = "Install them: pip install 'pennypost[sessions]'."


class ServerExtraMissing(ClientError):
    """This needs the server part."""

    code = "server-extra"
    remedy = "Install it: pip install 'pennypost[server]'."


class PriceTooHigh(ClientError):
    """The office asks more stamps than the limit you set."""

    code, status = "price", 402
    remedy = "Nothing was sent. Raise the limit (--max-stamps), or choose another office."


class OtherMint(ClientError):
    """This token is of a mint that this wallet does not use."""

    code = "other-mint"
    remedy = "Nothing was sent anywhere. If you trust that mint: `pennypost wallet mints add URL`."


class NameUnreachable(ClientError):
    """The server of this name does not answer."""

    code, status = "name-unreachable", 503
    remedy = "Try again later, or ask them for their npub."


class NameChanged(ClientError):
    """This name stands for another key than before."""

    code, status = "name-changed", 409
    remedy = "Nothing was sent. Ask them in another way; if the new key is theirs: `pennypost who NAME --accept`."


class OnceUsed(ClientError):
    """This key was given to another letter before."""

    code, status = "once-used", 409
    remedy = "Nothing was sent. Give each letter a key of its own: one key means one text to one person."


class KeyExists(ClientError):
    """There is already an identity in this home."""

    code = "key-exists"
    remedy = "Use it (pennypost keys show), or choose another --home."


class WrongClock(ClientError):
    """This machine's clock and theirs are minutes apart."""

    code = "clock"
    remedy = "Set it right: letters from the future, and letters already expired, are refused."


class CertificateWrong(ClientError):
    """The certificate of this address cannot be trusted."""

    code = "certificate"
    remedy = "Nothing was sent. Its operator puts it right; an authority of your own is named in SSL_CERT_FILE."


class ProxyInTheWay(ClientError):
    """What stands in front of this post office does not pass everything on."""

    code = "proxy"
    remedy = "Its operator puts it right: docs/how-to/run-a-post-office.md, `Behind a proxy`."


class HomeUnusable(ClientError):
    """The home directory cannot be used."""

    code = "home"
    remedy = "Choose a directory that you may write to with --home or PENNYPOST_HOME."


class HomeLocked(HomeUnusable):
    """The home is encrypted, and its passphrase is not known."""

    code = "home-locked"
    remedy = "Name a file with it in PENNYPOST_PASSPHRASE_FILE; on a terminal it is asked for."


class HomeInUse(HomeUnusable):
    """Another program is using this home."""

    code = "home-in-use"
    remedy = "End it (`pennypost inbox --watch`, or a program of yours), then run this again. Nothing was changed."


class HomeHalfEncrypted(HomeUnusable):
    """A file of this encrypted home is in clear."""

    code = "home-half-encrypted"
    remedy = (
        "Finish what was interrupted: `pennypost keys encrypt` with the same passphrase, or `pennypost keys decrypt`. "
        "If you began neither, somebody else has put that file there."
    )


class EncryptionMissing(ClientError):
    """Encrypted homes need a package that is not installed."""

    code = "encryption-missing"
    remedy = "pip install 'pennypost[encrypted]'"


def _tree(root: type[PennypostError]) -> list[type[PennypostError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


TABLE: tuple[type[PennypostError], ...] = tuple(_tree(PennypostError))
"""Every error class, root first; the reference page is held against it by a test."""
