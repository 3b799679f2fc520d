// Pays an invoice of this mint from a connected wallet. The address names a quote, never an invoice: what is paid is
// what the mint says that quote costs, and the mint is paid. The stamps go to whoever asked for that quote. Where that was
// not this browser, as far as it knows, it may be a trap, and nothing is paid before that is confirmed.

import { at, show } from './lib/dom';
import { Mint, Refusal } from './lib/mint';
import { alive, shop, stamps } from './lib/page';
import { Shelf } from './lib/shelf';

const NAME = 'wallet';
const NONE = 'This is no connection string: it begins with nostr+walletconnect:// and has a relay and a secret.';
const PLAIN =
  'The relay in this string is not encrypted (ws://), and this page connects to relays by wss:// alone. Choose another relay in your wallet.';
const mint = new Mint(shop.at);
let shelf: Shelf;
let busy = false;

function say(text: string): void {
  at('what').textContent = text;
}

function connected(string: string): Promise<void> {
  return import('./lib/nwc').then(({ parseConnection }) => {
    const found = parseConnection(string);
    const usable = Boolean(found?.relays.length);
    show(at('connect'), !usable);
    show(at('ready'), usable);
    if (found) at('relay').textContent = `over ${found.relays.map((each) => new URL(each).host).join(', ')}`;
  });
}

async function use(): Promise<void> {
  const string = at<HTMLTextAreaElement>('string').value.trim();
  const { parseConnection } = await import('./lib/nwc');
  const found = parseConnection(string);
  const good = Boolean(found?.relays.length);
  at('string').setAttribute('aria-invalid', String(!good));
  at('string-problem').textContent = good ? '' : found ? PLAIN : NONE;
  if (!good) return at('string').focus();
  held = string;
  // from here on it is nowhere in the page's own elements
  at<HTMLTextAreaElement>('string').value = '';
  await shelf.set(NAME, string);
  await connected(string);
  at('pay').focus();
}

let held = '';

async function pay(request: string): Promise<void> {
  if (busy) return;
  if (!at('stranger').hidden && !at<HTMLInputElement>('sure').checked) {
    at('sure-problem').textContent = 'Nothing is paid yet: confirm first that you know whose purchase this is.';
    return at('sure').focus();
  }
  at('sure-problem').textContent = '';
  busy = true;
  at('pay').setAttribute('aria-busy', 'true');
  say('Asking the wallet to pay…');
  const { parseConnection, pay: send, Silence, WalletRefusal } = await import('./lib/nwc');
  try {
    const connection = parseConnection(held);
    if (!connection) return;
    await send(connection, request);
    paid();
  } catch (error) {
    if (error instanceof WalletRefusal) say(`The wallet did not pay: ${error.message || error.code}.`);
    else if (error instanceof Silence) say('The wallet does not answer. It may still pay; to try again is safe, an invoice is paid once.');
    else say(`This did not work: ${error instanceof Error ? error.message : 'no reason is known'}.`);
  } finally {
    busy = false;
    at('pay').removeAttribute('aria-busy');
  }
}

function paid(): void {
  show(at('ready'), false);
  show(at('connect'), false);
  say('Paid. The stamps are on the page where they were bought; you can close this one.');
}

async function start(): Promise<void> {
  alive();
  say('Looking for the invoice…');
  shelf = await Shelf.open();
  const id = /^#([A-Za-z0-9_-]{1,128})$/.exec(location.hash)?.[1];
  if (!id) return say('No purchase is named. Start on the page where stamps are bought.');
  const kept = (await shelf.all()).find(({ quote }) => quote === id);
  if (kept) at<HTMLAnchorElement>('back').href = `/buy#b1.${kept.secret}.${kept.amount}.${id}`;
  try {
    const quote = await mint.check(id, kept?.amount);
    if (quote.state !== 'UNPAID') return paid();
    show(at('stranger'), !kept);
    at('sum').textContent = quote.amount ? `${quote.amount.toLocaleString('en')} sat for ${stamps(quote.amount)}` : 'see the purchase';
    at('pay').addEventListener('click', () => void pay(quote.request));
    at('connect').addEventListener('submit', (event) => {
      event.preventDefault();
      void use();
    });
    at('forget').addEventListener('click', async () => {
      held = '';
      await shelf.set(NAME, undefined);
      await connected('');
      at('string').focus();
    });
    say('');
    held = (await shelf.setting(NAME)) ?? '';
    await connected(held);
  } catch (error) {
    if (error instanceof Refusal) return say(`The mint refuses this purchase: ${error.detail || 'it does not know it'}.`);
    say('The mint does not answer. Reload this page in a moment.');
  }
}

void start();
