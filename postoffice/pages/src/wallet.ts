// Pays an invoice of this mint from a connected wallet. The address names a quote, never an invoice: what is paid is
// what the mint says that quote costs, so a link cannot make this page pay anybody else.

import { at, show } from './lib/dom';
import { Mint, Refusal } from './lib/mint';
import { alive, shop, stamps } from './lib/page';
import { Shelf } from './lib/shelf';

const NAME = 'wallet';
const mint = new Mint(shop.at);
let shelf: Shelf;
let busy = false;

function say(text: string): void {
  at('what').textContent = text;
}

function connected(string: string): Promise<void> {
  return import('./lib/nwc').then(({ parseConnection }) => {
    const found = parseConnection(string);
    show(at('connect'), !found);
    show(at('ready'), Boolean(found));
    if (found) at('relay').textContent = `over ${found.relays.map((each) => new URL(each).host).join(', ')}`;
  });
}

async function use(): Promise<void> {
  const string = at<HTMLTextAreaElement>('string').value.trim();
  const { parseConnection } = await import('./lib/nwc');
  const good = parseConnection(string) !== undefined;
  at('string').setAttribute('aria-invalid', String(!good));
  at('string-problem').textContent = good ? '' : 'This is no connection string: it begins with nostr+walletconnect:// and has a relay and a secret.';
  if (!good) return at('string').focus();
  held = string;
  await shelf.set(NAME, string);
  await connected(string);
  at('pay').focus();
}

let held = '';

async function pay(request: string): Promise<void> {
  if (busy) return;
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
  say('Paid. Your stamps are on the page where you bought them; you can close this one.');
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
    const quote = await mint.check(id);
    if (quote.state !== 'UNPAID') return paid();
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
    say(error instanceof Refusal ? 'The mint does not know this purchase.' : 'The mint does not answer. Reload this page in a moment.');
  }
}

void start();
