// A purchase, and the link that opens it again.
//
// Everything of it follows from `secret`: the key of the quote (NUT-20), the stamps' secrets, their blinding factors.
// So secret and quote are the purchase; the rest is kept to show it sooner.

export interface Blinded {
  amount: number;
  id: string;
  B_: string;
}

export interface Input {
  amount: number;
  id: string;
  secret: string;
  C: string;
}

/**
 * new: nothing asked of the mint yet. open: an invoice is there. paid: the mint has the money. lost: a merge whose stamps
 * somebody else has spent. done: `token` is there.
 */
export type State = 'new' | 'open' | 'paid' | 'lost' | 'done';

export interface Purchase {
  /** 32 bytes, base64url */
  secret: string;
  /** sat, so as many stamps of 1 sat */
  amount: number;
  state: State;
  /** Unix seconds */
  created: number;
  quote?: string;
  /** whether the quote is locked to our key (NUT-20) */
  locked?: boolean;
  /** BOLT11 */
  request?: string;
  /** Unix seconds */
  expiry?: number;
  /** blinded messages as they will be sent, made before the invoice is shown */
  outputs?: Blinded[];
  /** stamps that are exchanged for it, where it is no purchase but a merge */
  inputs?: Input[];
  token?: string;
}

const LINK = /^#([bm])1\.([A-Za-z0-9_-]{43})\.([1-9][0-9]{0,7})(?:\.([A-Za-z0-9_-]{1,128}))?$/;

export const now = (): number => Math.floor(Date.now() / 1000);

/** A purchase, or a merge of `inputs`, that nobody can guess. */
export function fresh(amount: number, inputs?: Input[]): Purchase {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  const secret = btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '');
  return { secret, amount, state: 'new', created: now(), ...(inputs && { inputs }) };
}

/** The part behind `#`, which no browser sends to a server. */
export function fragment(purchase: Purchase): string {
  const parts = [purchase.inputs ? '#m1' : '#b1', purchase.secret, purchase.amount];
  return (purchase.quote ? [...parts, purchase.quote] : parts).join('.');
}

/** What a fragment stands for; undefined when it is none of ours. */
export function parse(text: string): Purchase | undefined {
  const found = LINK.exec(text);
  if (!found) return undefined;
  const [, kind, secret, amount, quote] = found as unknown as [string, string, string, string, string | undefined];
  const purchase: Purchase = { secret, amount: Number(amount), state: 'new', created: now() };
  if (kind === 'm') return { ...purchase, inputs: [], state: 'paid' };
  return quote ? { ...purchase, quote, state: 'open' } : purchase;
}
