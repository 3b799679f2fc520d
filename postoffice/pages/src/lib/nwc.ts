// Pays one invoice from a wallet over Nostr Wallet Connect (NIP-47). Nothing else is asked of the wallet.

import { hexToBytes } from '@noble/hashes/utils.js';
import * as nip04 from 'nostr-tools/nip04';
import * as nip44 from 'nostr-tools/nip44';
import { finalizeEvent, getPublicKey, verifyEvent, type NostrEvent } from 'nostr-tools/pure';

const INFO = 13194;
const REQUEST = 23194;
const RESPONSE = 23195;
const CONNECT_SECONDS = 15;
const PAY_SECONDS = 60;

export interface Connection {
  wallet: string;
  relays: string[];
  secret: string;
}

/** The wallet said no. `code` is NIP-47's. */
export class WalletRefusal extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** No answer: nobody knows yet whether it paid. */
export class Silence extends Error {}

/** Reads `nostr+walletconnect://…`; undefined when it is none. `relays`: those that this page may connect to, maybe none. */
export function parseConnection(text: string): Connection | undefined {
  const found = /^nostr\+walletconnect:(?:\/\/)?([0-9a-f]{64})\/?\?(.*)$/.exec(text.trim());
  if (!found) return undefined;
  const query = new URLSearchParams(found[2]);
  const secret = query.get('secret') ?? '';
  const relays = query.getAll('relay').filter((each) => ['wss:', 'ws:'].includes(protocol(each)));
  if (!/^[0-9a-f]{64}$/.test(secret) || !relays.length) return undefined;
  return { wallet: found[1] as string, relays: relays.filter(reachable), secret };
}

/** What the policy of `/buy/wallet` lets through: TLS to anywhere, and this server. */
function reachable(relay: string): boolean {
  return protocol(relay) === 'wss:' || (location.protocol === 'http:' && new URL(relay).host === location.host);
}

function protocol(address: string): string {
  try {
    return new URL(address).protocol;
  } catch {
    return '';
  }
}

/** Has the wallet pay. Safe to repeat: an invoice is paid once. Throws WalletRefusal, Silence. */
export async function pay(connection: Connection, invoice: string): Promise<void> {
  let last: unknown = new Silence('no relay of the wallet answers');
  for (const relay of connection.relays) {
    let line: Line;
    try {
      line = await Line.open(relay);
    } catch (error) {
      last = error;
      continue;
    }
    try {
      return await payOver(line, connection, invoice);
    } finally {
      line.close();
    }
  }
  throw last;
}

async function payOver(line: Line, { wallet, secret }: Connection, invoice: string): Promise<void> {
  const key = hexToBytes(secret);
  const info = await line.first({ kinds: [INFO], authors: [wallet], limit: 1 }, CONNECT_SECONDS, true);
  const schemes = info?.tags.find(([name]) => name === 'encryption')?.[1]?.split(' ') ?? [];
  const modern = schemes.includes('nip44_v2');
  const shared = nip44.getConversationKey(key, wallet);
  const text = JSON.stringify({ method: 'pay_invoice', params: { invoice } });
  const content = modern ? nip44.encrypt(text, shared) : nip04.encrypt(key, wallet, text);
  const at = Math.floor(Date.now() / 1000);
  const tags = [['p', wallet], ['expiration', String(at + PAY_SECONDS)], ...(modern ? [['encryption', 'nip44_v2']] : [])];
  const request = finalizeEvent({ kind: REQUEST, created_at: at, tags, content }, key);
  const filter = { kinds: [RESPONSE], authors: [wallet], '#e': [request.id], '#p': [getPublicKey(key)] };
  const waiting = line.first(filter, PAY_SECONDS, false);
  line.publish(request);
  const answer = await waiting;
  if (!answer) throw new Silence('the wallet does not answer');
  const plain = modern ? nip44.decrypt(answer.content, shared) : nip04.decrypt(key, wallet, answer.content);
  const { error } = JSON.parse(plain) as { error?: { code?: unknown; message?: unknown } | null };
  if (error) throw new WalletRefusal(String(error.code ?? 'OTHER'), String(error.message ?? ''));
}

/** One connection to a relay. */
class Line {
  private count = 0;

  private constructor(private readonly socket: WebSocket) {}

  static open(relay: string): Promise<Line> {
    return new Promise((done, failed) => {
      const socket = new WebSocket(relay);
      const late = setTimeout(() => socket.close(), CONNECT_SECONDS * 1000);
      socket.onopen = () => {
        clearTimeout(late);
        done(new Line(socket));
      };
      socket.onclose = socket.onerror = () => {
        clearTimeout(late);
        failed(new Silence('no relay of the wallet answers'));
      };
    });
  }

  /** The first genuine event, or undefined: after so many seconds, when the line ends, or at the end of what is stored. */
  first(filter: Record<string, unknown> & { kinds: number[]; authors: string[] }, seconds: number, stored: boolean): Promise<NostrEvent | undefined> {
    const id = `page-${++this.count}`;
    return new Promise((done) => {
      const end = (event?: NostrEvent): void => {
        clearTimeout(late);
        this.socket.removeEventListener('message', heard);
        this.socket.removeEventListener('close', closed);
        done(event);
      };
      const closed = (): void => end();
      const heard = ({ data }: MessageEvent): void => {
        const frame = read(data);
        if (frame[1] !== id) return;
        if ((frame[0] === 'EOSE' && stored) || frame[0] === 'CLOSED') return end();
        const event = frame[2] as NostrEvent;
        const wanted = frame[0] === 'EVENT' && filter.kinds.includes(event?.kind) && filter.authors.includes(event?.pubkey);
        if (wanted && verifyEvent(event)) end(event);
      };
      const late = setTimeout(end, seconds * 1000);
      this.socket.addEventListener('message', heard);
      this.socket.addEventListener('close', closed);
      this.socket.send(JSON.stringify(['REQ', id, filter]));
    });
  }

  publish(event: NostrEvent): void {
    this.socket.send(JSON.stringify(['EVENT', event]));
  }

  close(): void {
    this.socket.close();
  }
}

function read(data: unknown): unknown[] {
  try {
    const frame: unknown = JSON.parse(String(data));
    return Array.isArray(frame) ? frame : [];
  } catch {
    return [];
  }
}
