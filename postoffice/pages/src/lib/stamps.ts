// The wallet code: what needs the curve. Loaded when it is needed, not with the page.
//
//   secret ──HKDF──▶ seed, key ──NUT-13──▶ outputs ──▶ mint or swap ──signatures──▶ proofs ──▶ token
//
// The same secret gives the same outputs, and the same outputs get the same signatures: asking again is always safe.

import {
  OutputData,
  deriveKeysetId,
  getDecodedToken,
  getEncodedToken,
  getTokenMetadata,
  hashToCurve,
  signMintQuote,
} from '@cashu/cashu-ts';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import type { Keys, Mint, Signature } from './mint';
import { Elsewhere, Refusal } from './mint';
import type { Blinded, Input, Purchase } from './purchase';

const ISSUED = 20002;
const SIGNED = 11003;
const SPENT = 11001;
const KEYSET_RETIRED = [12001, 12002, 12003];

/** The public key that the quote is locked to (NUT-20), 66 hex digits. */
export function quoteKey(purchase: Purchase): string {
  return bytesToHex(secp256k1.getPublicKey(derived(purchase, 'quote key', 32), true));
}

/** The blinded messages of a purchase for these keys. Throws where the keys are not those that their id names. */
export function blinded(purchase: Purchase, keys: Keys): Blinded[] {
  return outputs(purchase, keys).map(plain);
}

/** The token of a purchase that is paid, or of a merge: as often as it is asked for. Throws Refusal, Unreachable, Elsewhere. */
export async function collect(mint: Mint, address: string, purchase: Purchase): Promise<string> {
  const prepared = purchase.outputs?.[0]?.id;
  let keys = await mint.keys(prepared);
  try {
    try {
      return encode(address, purchase, keys, await signed(mint, purchase, blinded(purchase, keys)));
    } catch (error) {
      // rotated since it was prepared: what was not given out then is given out with the keys of today
      if (!(error instanceof Refusal && KEYSET_RETIRED.includes(error.code))) throw error;
      keys = await mint.keys();
      return encode(address, purchase, keys, await signed(mint, purchase, blinded(purchase, keys)));
    }
  } catch (error) {
    if (!(error instanceof Refusal && [ISSUED, SIGNED, SPENT].includes(error.code))) throw error;
    const token = await restore(mint, address, purchase);
    if (token === undefined) throw new Elsewhere('given out to someone else');
    return token;
  }
}

/** The token of what was signed before (NUT-09), whichever keyset signed it. */
export async function restore(mint: Mint, address: string, purchase: Purchase): Promise<string | undefined> {
  for (const { id } of await mint.keysets()) {
    const keys = await mint.keys(id);
    const mine = blinded(purchase, keys);
    const found = await mint.restore(mine);
    const byPoint = new Map(found.outputs.map((output, index) => [output.B_, found.signatures[index]]));
    const signatures = mine.map(({ B_ }) => byPoint.get(B_));
    if (signatures.every((each) => each !== undefined)) return encode(address, purchase, keys, signatures);
  }
  return undefined;
}

export interface Opened {
  mint: string;
  unit: string;
  amount: number;
  proofs: Input[];
  /** proofs that only a key or a preimage opens */
  locked: number;
}

/** What a token says of itself. Throws where it is none. */
export function open(token: string, keysets: string[]): Opened {
  const { mint, unit } = getTokenMetadata(token);
  const { proofs } = getDecodedToken(token, keysets);
  const inputs = proofs.map(({ amount, id, secret, C }) => ({ amount: number(amount), id, secret, C }));
  return {
    mint,
    unit,
    proofs: inputs,
    amount: inputs.reduce((sum, each) => sum + each.amount, 0),
    locked: inputs.filter(({ secret }) => secret.startsWith('["')).length,
  };
}

/** These stamps as a token, as they were before a merge. */
export function tokenOf(address: string, inputs: Input[]): string {
  const proofs = inputs as unknown as Parameters<typeof getEncodedToken>[0]['proofs'];
  return getEncodedToken({ mint: address, unit: 'sat', proofs });
}

/** The Y of a proof (NUT-00), by which the mint knows whether it is spent. */
export function pointOf(secret: string): string {
  return hashToCurve(utf8ToBytes(secret)).toHex(true);
}

function signed(mint: Mint, purchase: Purchase, messages: Blinded[]): Promise<Signature[]> {
  if (purchase.inputs?.length) return mint.swap(purchase.inputs, messages);
  // the link of a merge: its stamps are in no other place than the mint's memory of what it signed
  if (!purchase.quote) throw new Refusal(400, SPENT, 'nothing to exchange');
  const key = purchase.locked === false ? undefined : bytesToHex(derived(purchase, 'quote key', 32));
  // the library's type of an amount is a class of its own; for the signature only B_ counts
  const parts = messages as unknown as Parameters<typeof signMintQuote>[2];
  return mint.mint(purchase.quote, messages, key && signMintQuote(key, purchase.quote, parts));
}

function outputs(purchase: Purchase, keys: Keys): OutputData[] {
  // ids of before 2024 do not follow from the keys
  if (/^0[01][0-9a-f]+$/.test(keys.id) && deriveKeysetId(keys.keys, identity(keys)) !== keys.id) {
    throw new Error('these keys are not those of the keyset');
  }
  return OutputData.createDeterministicData(purchase.amount, derived(purchase, 'stamps', 64), 0, keys);
}

function identity(keys: Keys): NonNullable<Parameters<typeof deriveKeysetId>[1]> {
  return {
    versionByte: Number(keys.id.slice(0, 2)),
    unit: keys.unit,
    ...(keys.final_expiry != null && { expiry: keys.final_expiry }),
    ...(keys.input_fee_ppk != null && { input_fee_ppk: keys.input_fee_ppk }),
  };
}

function derived(purchase: Purchase, use: string, length: number): Uint8Array {
  const secret = Uint8Array.from(atob(purchase.secret.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
  return hkdf(sha256, secret, utf8ToBytes('pennypost/purchase/v1'), utf8ToBytes(use), length);
}

function plain(output: OutputData): Blinded {
  const { amount, id, B_ } = output.blindedMessage;
  return { amount: number(amount), id, B_ };
}

/** Unblinds, which checks the mint's proof that it signed with its published keys (NUT-12); the token carries none. */
function encode(address: string, purchase: Purchase, keys: Keys, signatures: Signature[]): string {
  const made = outputs(purchase, keys);
  if (signatures.length !== made.length) throw new Error('the mint signed something else');
  const proofs = made.map((output, index) => {
    const signature = signatures[index] as Signature;
    if (number(output.blindedMessage.amount) !== number(signature.amount) || signature.id !== keys.id) {
      throw new Error('the mint signed something else');
    }
    return output.toProof(signature as unknown as Parameters<OutputData['toProof']>[0], keys);
  });
  return getEncodedToken({ mint: address, unit: 'sat', proofs }, { removeDleq: true });
}

function number(amount: unknown): number {
  return Number(String(amount));
}
