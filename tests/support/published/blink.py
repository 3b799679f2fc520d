"""Blink's public GraphQL API, the part that the adapter uses; graphql-core answers by it, so nothing else passes.

Read in GaloyMoney/blink at 29ea9fb0fe516995818a90b1c63d4a91df76a7e9: core/api/src/graphql/public/schema.graphql, and
core/api/src/graphql/shared/types/scalar/{sat-amount,memo}.ts for what these two scalars take. No package on PyPI or
npm carries that schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLError, GraphQLScalarType, build_schema, graphql_sync

SDL = """
scalar Hex32Bytes
scalar LnPaymentRequest
scalar LnPaymentSecret
scalar Memo
scalar Minutes
scalar PaymentHash
scalar SatAmount
scalar SignedAmount
scalar Timestamp
scalar TxExternalId
scalar WalletId

enum InvoicePaymentStatus { EXPIRED PAID PENDING }
enum WalletCurrency { BTC USD }

interface Error { code: String  message: String!  path: [String] }
type GraphQLApplicationError implements Error { code: String  message: String!  path: [String] }

interface Wallet { id: ID!  balance: SignedAmount!  walletCurrency: WalletCurrency! }
type BTCWallet implements Wallet { id: ID!  balance: SignedAmount!  walletCurrency: WalletCurrency! }
type UsdWallet implements Wallet { id: ID!  balance: SignedAmount!  walletCurrency: WalletCurrency! }
interface Account { id: ID!  wallets: [Wallet!]! }
type ConsumerAccount implements Account { id: ID!  wallets: [Wallet!]! }
type User { id: ID!  defaultAccount: Account! }

type LnInvoice {
  createdAt: Timestamp!
  externalId: TxExternalId!
  paymentHash: PaymentHash!
  paymentRequest: LnPaymentRequest!
  paymentSecret: LnPaymentSecret!
  paymentStatus: InvoicePaymentStatus!
  satoshis: SatAmount!
}
type LnInvoicePayload { errors: [Error!]!  invoice: LnInvoice }
input LnInvoiceCreateOnBehalfOfRecipientInput {
  amount: SatAmount!
  descriptionHash: Hex32Bytes
  expiresIn: Minutes
  externalId: TxExternalId
  memo: Memo
  recipientWalletId: WalletId!
}

type LnInvoicePaymentStatusPayload {
  errors: [Error!]!
  paymentHash: PaymentHash
  paymentRequest: LnPaymentRequest
  status: InvoicePaymentStatus
}
input LnInvoicePaymentStatusInput { paymentRequest: LnPaymentRequest! }

type Query {
  me: User
  lnInvoicePaymentStatus(input: LnInvoicePaymentStatusInput!): LnInvoicePaymentStatusPayload!
    @deprecated(reason: "in favour of lnInvoicePaymentStatusByPaymentRequest")
}
type Mutation {
  lnInvoiceCreateOnBehalfOfRecipient(input: LnInvoiceCreateOnBehalfOfRecipientInput!): LnInvoicePayload!
}
"""
MOST_SAT = 2_100_000_000_000_000
MEMO_BYTES = 639


def _sat(value: Any) -> int:
    number = int(value) if type(value) is str and value.isascii() and value.isdigit() else value
    if type(number) is not int or not 0 <= number <= MOST_SAT:
        raise GraphQLError("SatAmount")
    return number


def _memo(value: Any) -> str:
    if type(value) is not str or len(value.encode()) > MEMO_BYTES:
        raise GraphQLError("Memo")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise GraphQLError("text")
    return value


SCHEMA = build_schema(SDL)
for _name, _read in {"SatAmount": _sat, "Memo": _memo, "WalletId": _text, "LnPaymentRequest": _text}.items():
    _scalar = SCHEMA.type_map[_name]
    assert isinstance(_scalar, GraphQLScalarType)
    _scalar.coerce_input_value = _read


def execute(root: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The answer of a server whose fields `root` resolves, and what of query, variables or answer does not fit."""
    result = graphql_sync(SCHEMA, body["query"], root, variable_values=body["variables"])
    found = [error.message for error in result.errors or []]
    return dict(result.formatted), found + [f"a field {name}" for name in body if name not in ("query", "variables")]
