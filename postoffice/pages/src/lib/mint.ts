// The mint over HTTP (NUT-03, 04, 07, 09): one request, one answer or one of two errors.

import { satOf } from './invoice';
import type { Blinded, Input } from './purchase';

const SECONDS = 20;

export interface Quote {
  quote: string;
  request: string;
  state: 'UNPAID' | 'PAID' | 'ISSUED';
  amount?: number;
  expiry?: number | null;
  pubkey?: string | null;
}

export interface Keyset {
  id: string;
  unit: string;
  active?: boolean;
  input_fee_ppk?: number;
  final_expiry?: number | null;
}

export interface Keys extends Keyset {
  keys: Record<string, string>;
}

export interface Signature {
  amount: number;
  id: string;
  C_: string;
  dleq?: { e: string; s: string };
}

/** The mint said no (NUT-00, Errors). `code` is 0 where it gave none. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    readonly detail: string,
  ) {
    super(detail);
  }

  /** Whether the same request may succeed in a while. */
  get passes(): boolean {
    return this.status >= 500 || this.status === 429;
  }
}

/** The stamps of a purchase were given out for other secrets: whoever has them, it is not this link. */
export class Elsewhere extends Error {}

/** No answer came: no network, a mint that is down, or too slow. */
export class Unreachable extends Error {}

/** An invoice is shown, and paid from a connected wallet, for the sum that is said beside it and for no other. */
function fair(quote: Quote, amount: number | undefined): Quote {
  if (quote.state !== 'UNPAID' || amount === undefined || satOf(quote.request) === amount) return quote;
  throw new Refusal(400, 0, 'its invoice asks for another sum than this purchase costs. Do not pay it');
}

export class Mint {
  /** Seconds that the mint's clock is ahead of this device's, as far as it said. */
  ahead = 0;

  /** `at`: where it is asked; empty for this origin. */
  constructor(readonly at: string) {}

  get socket(): string {
    return new URL(`${this.at}/v1/ws`, location.href).href.replace(/^http/, 'ws');
  }

  async quote(amount: number, pubkey?: string): Promise<Quote> {
    return fair(await this.ask('/v1/mint/quote/bolt11', { amount, unit: 'sat', ...(pubkey && { pubkey }) }), amount);
  }

  /** `amount`: what it costs as far as we know, for mints that do not say. */
  async check(quote: string, amount?: number): Promise<Quote> {
    const found = await this.ask<Quote>(`/v1/mint/quote/bolt11/${encodeURIComponent(quote)}`);
    return fair(found, found.amount ?? amount);
  }

  async mint(quote: string, outputs: Blinded[], signature?: string): Promise<Signature[]> {
    const body = { quote, outputs, ...(signature && { signature }) };
    return (await this.ask<{ signatures: Signature[] }>('/v1/mint/bolt11', body)).signatures;
  }

  async swap(inputs: Input[], outputs: Blinded[]): Promise<Signature[]> {
    return (await this.ask<{ signatures: Signature[] }>('/v1/swap', { inputs, outputs })).signatures;
  }

  restore(outputs: Blinded[]): Promise<{ outputs: Blinded[]; signatures: Signature[] }> {
    return this.ask('/v1/restore', { outputs });
  }

  async states(ys: string[]): Promise<('SPENT' | 'UNSPENT' | 'PENDING')[]> {
    const body = { Ys: ys };
    const { states } = await this.ask<{ states: { state: 'SPENT' | 'UNSPENT' | 'PENDING' }[] }>('/v1/checkstate', body);
    return states.map(({ state }) => state);
  }

  async keysets(): Promise<Keyset[]> {
    return (await this.ask<{ keysets: Keyset[] }>('/v1/keysets')).keysets.filter(({ unit }) => unit === 'sat');
  }

  /** The keys of one keyset, or of the one that signs. */
  async keys(id?: string): Promise<Keys> {
    const { keysets } = await this.ask<{ keysets: Keys[] }>(id ? `/v1/keys/${encodeURIComponent(id)}` : '/v1/keys');
    const found = keysets.find((each) => (id ? each.id === id : each.unit === 'sat'));
    if (!found) throw new Refusal(400, 12001, 'the mint has no such keys');
    return found;
  }

  /** Whether quotes may be locked to a key (NUT-06, NUT-20). */
  async locks(): Promise<boolean> {
    const { nuts } = await this.ask<{ nuts?: Record<string, { supported?: boolean } | undefined> }>('/v1/info');
    return nuts?.['20']?.supported === true;
  }

  private async ask<T>(path: string, body?: object): Promise<T> {
    let response: Response;
    let answer: unknown;
    try {
      response = await fetch(this.at + path, {
        signal: AbortSignal.timeout(SECONDS * 1000),
        cache: 'no-store',
        credentials: 'omit',
        ...(body && { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      });
      answer = await response.json();
      const date = Date.parse(response.headers.get('date') ?? '');
      const ahead = Math.round((date - Date.now()) / 1000);
      // a few seconds are the network's
      this.ahead = Math.abs(ahead) > 5 ? ahead : 0;
    } catch {
      throw new Unreachable('the mint does not answer');
    }
    if (response.ok) return answer as T;
    const { code, detail } = (answer ?? {}) as { code?: unknown; detail?: unknown };
    throw new Refusal(response.status, Number(code) || 0, typeof detail === 'string' ? detail : '');
  }
}
