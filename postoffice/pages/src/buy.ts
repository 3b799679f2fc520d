// The buy page.
//
//   choose ──▶ secret, keys and outputs kept ──▶ invoice ──▶ pay ──paid──▶ stamps given out ──▶ done
//                                                             │                 └─▶ trouble: tried again by itself
//                                                             └─expired─▶ over: a new invoice, or still paid late
//
// A purchase is in the address (behind #) and on the shelf before its invoice is shown, so it is taken up from any
// moment: `resume` is the one way in, for a reload as for a link on another device.

import { at, make, show } from './lib/dom';
import { Elsewhere, Mint, Refusal, Unreachable } from './lib/mint';
import { alive, announce, copying, shop, stamps, warnUnlessKept } from './lib/page';
import { fragment, fresh, now, parse, type Purchase } from './lib/purchase';
import { Shelf } from './lib/shelf';
import { move, section } from './lib/steps';
import { command, showToken } from './lib/token-view';
import { watch } from './lib/watch';
import { offerBrowserWallet, payByBrowserWallet } from './lib/webln';

const NO_SALE = 20003;

const mint = new Mint(shop.at);
const walletCode = (): Promise<typeof import('./lib/stamps')> => import('./lib/stamps');

let shelf: Shelf;
let current: Purchase | undefined;
const still = (): void => {};
let leave = still;

/** Keeps it, in the address too. The answer is what is kept, which another tab may have brought further. */
async function keep(purchase: Purchase): Promise<Purchase> {
  current = await shelf.put(purchase);
  history.replaceState(null, '', fragment(current));
  warnUnlessKept(shelf);
  return current;
}

// choosing

function chosen(): number | undefined {
  const picked = at('choose').querySelector<HTMLInputElement>('input[name="pack"]:checked')?.value ?? '';
  const text = picked === 'own' ? at<HTMLInputElement>('number').value : picked;
  const count = /^[0-9]{1,8}$/.test(text) ? Number(text) : 0;
  return count >= 1 && count <= (shop.most ?? 10_000_000) ? count : undefined;
}

function describe(): void {
  const own = at('choose').querySelector<HTMLInputElement>('input[value="own"]')?.checked === true;
  show(at('own'), own);
  const count = chosen();
  at('buy-problem').textContent = '';
  const button = at<HTMLButtonElement>('buy');
  button.textContent = count ? `Buy ${stamps(count)} for ${count.toLocaleString('en')} sat` : 'Buy stamps';
  at('number').setAttribute('aria-invalid', String(own && !count));
  at('number-problem').textContent =
    own && !count ? `A whole number${shop.most ? ` from 1 to ${shop.most.toLocaleString('en')}` : ' from 1 on'}.` : '';
  const buys = document.querySelector<HTMLElement>('#choose .buys');
  const each = Number(buys?.dataset['letter'] ?? 0);
  if (buys && each && count) {
    const letters = Math.floor(count / each);
    const many = `${letters.toLocaleString('en')} letter${letters === 1 ? '' : 's'}`;
    buys.textContent = letters
      ? `${stamps(count)}: ${many} of up to 1 KiB, each kept for 30 days.`
      : `A letter takes ${stamps(each)}: ${stamps(count)} are not enough for one.`;
  }
}

let buying: Promise<void> | undefined;

/** Asks for an invoice, once however often it is clicked. */
function buy(count: number): Promise<void> {
  buying ??= ordered(fresh(count)).finally(() => (buying = undefined));
  return buying;
}

async function ordered(purchase: Purchase): Promise<void> {
  const button = at<HTMLButtonElement>('buy');
  button.setAttribute('aria-busy', 'true');
  at('buy-problem').textContent = '';
  button.textContent = 'Making your stamps…';
  announce('Making your stamps and asking for an invoice.');
  try {
    await quoted(purchase);
  } catch (error) {
    // from the moment that there is an invoice it may be paid: such a purchase is kept, whatever goes wrong
    if (current?.secret === purchase.secret && current.quote) return problem(error);
    leave();
    current = undefined;
    history.replaceState(null, '', location.pathname);
    await shelf.forget(purchase.secret);
    section('choose');
    at('buy-problem').textContent = refused(error);
  } finally {
    button.removeAttribute('aria-busy');
    if (at('buy-problem').textContent) button.textContent = 'Try again';
  }
}

function refused(error: unknown): string {
  if (error instanceof Unreachable) return 'The mint does not answer. Check your connection and try again.';
  if (!(error instanceof Refusal)) return `This page could not go on (${reason(error)}). Reload it and try again.`;
  if (error.code === NO_SALE) return 'This mint sells no more stamps.';
  if (error.passes) return 'The mint cannot make an invoice just now. Try again in a minute.';
  return `The mint refused: ${error.detail || 'no reason given'}.`;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : 'no reason is known';
}

/** Outputs and all code first, then the quote, kept after each step: no invoice is seen whose stamps could not be made. */
async function quoted(purchase: Purchase): Promise<void> {
  const [{ blinded, quoteKey }, keys, locked] = await Promise.all([walletCode(), mint.keys(), mint.locks(), import('./lib/qr')]);
  const prepared = await keep({ ...purchase, outputs: blinded(purchase, keys), locked });
  const quote = await mint.quote(purchase.amount, locked ? quoteKey(purchase) : undefined);
  await follow(
    await keep({
      ...prepared,
      state: 'open',
      quote: quote.quote,
      request: quote.request,
      ...(quote.expiry && { expiry: quote.expiry }),
    }),
  );
}

// paying

/** Shows the purchase as it stands, and goes on with it. */
async function follow(purchase: Purchase): Promise<void> {
  leave();
  current = purchase;
  if (purchase.state === 'done' && purchase.token) return finished(purchase);
  if (purchase.state === 'new') return section('choose');
  const end = watch({
    socket: mint.socket,
    kind: 'bolt11_mint_quote',
    filters: [purchase.quote ?? ''],
    look: () => look(purchase.secret),
  });
  const clock = setInterval(tick, 1_000);
  leave = () => {
    end();
    clearInterval(clock);
    leave = still;
  };
  if (purchase.state === 'open' && purchase.request) await invoice(purchase).catch(problem);
  else busy('Opening your purchase…');
}

function busy(text: string): void {
  at('busy-title').textContent = text;
  move('busy', text);
}

/** What the mint knows of the quote, and what follows from it. */
async function look(secret: string): Promise<void> {
  if (!current || current.secret !== secret) return;
  try {
    const quote = await mint.check(current.quote ?? '', current.amount);
    offline = false;
    if (current?.secret !== secret) return;
    const first = !current.request;
    current = {
      ...current,
      request: quote.request,
      locked: Boolean(quote.pubkey),
      ...(quote.expiry && { expiry: quote.expiry }),
      ...(quote.amount && { amount: quote.amount }),
    };
    if (quote.state === 'UNPAID') {
      if (first) current = await shelf.put(current);
      await invoice(current);
      return;
    }
    current = await keep({ ...current, state: 'paid' });
    if (at('trouble').hidden) busy('Paid. Fetching your stamps…');
    const { collect } = await walletCode();
    const token = await collect(mint, shop.mint, current);
    leave();
    await finished(await keep({ ...current, state: 'done', token }));
  } catch (error) {
    problem(error);
  }
}

/** Something did not work. Nothing is lost by it; whether it is tried again depends on what it is. */
function problem(error: unknown): void {
  // the stamps are here, and stay in sight
  if (current?.state === 'done') return;
  if (error instanceof Elsewhere) {
    leave();
    stuck('These stamps were given out already', 'The mint gave them out for other secrets than those of this link.', false);
  } else if (error instanceof Unreachable) {
    if (current?.state === 'paid') stuck('The mint does not answer', 'Your payment has arrived. The stamps come as soon as the mint answers.');
    else if (at('pay').hidden && at('over').hidden && current) stuck('The mint does not answer', 'This purchase is opened as soon as it does.');
    offline = true;
    tick();
  } else if (error instanceof Refusal && !error.passes) {
    leave();
    const unknown = error.code === 20010 || error.status === 404;
    if (unknown) stuck('This purchase is not known', 'The mint does not know it. Is the link complete, and of this office?', false);
    else stuck('The mint refused', `It says: ${error.detail || 'nothing'}. The link keeps its worth: try again later.`);
  } else if (error instanceof Refusal) {
    if (current?.state === 'paid') stuck('The mint is busy', 'Your payment has arrived. The stamps come in a moment.');
  } else {
    stuck('This page could not go on', `The browser says: ${reason(error)}. Reload the page.`);
  }
}

function stuck(title: string, text: string, keeps = true): void {
  at('trouble-title').textContent = title;
  at('trouble-text').textContent = text;
  show(at('trouble-keep'), keeps);
  show(at('trouble-tries'), leave !== still);
  show(at('retry'), keeps);
  show(at('keep-link'), keeps);
  show(at('anew'), !keeps);
  move('trouble', title);
}

let drawn = '';
let offline = false;

async function invoice(purchase: Purchase): Promise<void> {
  const request = purchase.request ?? '';
  if (drawn !== request) {
    const link = `lightning:${request}`;
    const following = leave;
    const { QrCode } = await import('./lib/qr');
    // what a look found out while that was loaded stands
    if (leave !== following) return;
    const qr = at<HTMLAnchorElement>('qr');
    qr.replaceChildren(new QrCode(`LIGHTNING:${request.toUpperCase()}`).element);
    qr.href = link;
    at<HTMLAnchorElement>('open').href = link;
    at('invoice').textContent = request;
    at<HTMLAnchorElement>('nwc').href = `/buy/wallet#${purchase.quote ?? ''}`;
    at('pay-title').textContent = `Pay ${purchase.amount.toLocaleString('en')} sat for ${stamps(purchase.amount)}`;
    at('pay-problem').textContent = '';
    drawn = request;
  }
  offerBrowserWallet();
  tick();
}

function tick(): void {
  if (!current || current.state !== 'open' || !current.request || drawn !== current.request) return;
  const left = (current.expiry ?? Infinity) - now() - mint.ahead;
  if (left <= 0) {
    move('over', 'The invoice has expired');
    return;
  }
  const clock = left === Infinity ? '' : ` ${Math.floor(left / 60)}:${String(Math.floor(left % 60)).padStart(2, '0')} left.`;
  at('state-text').textContent = offline ? 'No connection to the mint. Trying again…' : `Waiting for the payment.${clock}`;
  if (at('pay').hidden) move('pay', at('pay-title').textContent ?? '');
}

// done

async function finished(purchase: Purchase): Promise<void> {
  const title = `${stamps(purchase.amount)} ${purchase.amount === 1 ? 'is' : 'are'} yours`;
  at('done-title').textContent = title;
  at<HTMLTextAreaElement>('token').value = purchase.token ?? '';
  show(at('keep-note'), shelf.durable);
  show(at('forget'), shelf.durable);
  move('done', title);
  await showToken(mint, purchase.token ?? '', title);
}

async function forget(): Promise<void> {
  if (current) await shelf.forget(current.secret);
  location.assign('/buy');
}

async function listKept(): Promise<void> {
  const found = (await shelf.all()).filter((each) => !each.inputs && each.state !== 'new');
  const when = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' });
  const lines = found.map((each) => {
    const state = { new: '', open: 'not paid yet', paid: 'paid, not fetched yet', lost: '', done: 'bought' }[each.state];
    const date = when.format(new Date(each.created * 1000));
    const label = `${stamps(each.amount)}, ${date}`;
    return make('li', {}, make('a', { href: fragment(each) }, label), make('span', { class: 'soft' }, ` ${state}`));
  });
  at('kept-list').replaceChildren(...lines);
}

/** The one way in: what the address says, else a choice. */
async function resume(): Promise<void> {
  leave();
  drawn = '';
  current = undefined;
  const linked = parse(location.hash);
  if (!linked || linked.inputs) {
    await listKept();
    section('choose');
    describe();
    return;
  }
  // the fragment alone is enough: what is kept here only spares a question or two
  const known = await shelf.get(linked.secret);
  // it may be behind the link: a disk that was full when the quote came
  const purchase = { ...linked, ...known, ...(known?.state === 'new' && { state: linked.state }) };
  if (purchase.state === 'new' || !purchase.quote) {
    // closed before the mint answered: nobody has seen that invoice
    await shelf.forget(purchase.secret);
    history.replaceState(null, '', location.pathname);
    section('choose');
    describe();
    return;
  }
  // what the mint has never heard of is not kept: `look` keeps it when it has
  await follow(known ? await keep(purchase) : purchase);
}

async function start(): Promise<void> {
  alive();
  shelf = await Shelf.open();
  warnUnlessKept(shelf);
  copying({
    invoice: () => current?.request ?? '',
    link: () => location.origin + location.pathname + (current ? fragment(current) : ''),
    token: () => current?.token ?? '',
    command: () => command(current?.token ?? ''),
  });
  at('choose').addEventListener('input', describe);
  at('choose').addEventListener('submit', (event) => {
    event.preventDefault();
    if (at('choose').hidden) return;
    const count = chosen();
    if (count) void buy(count);
    else at('number').focus();
  });
  at('renew').addEventListener('click', () => current && void buy(current.amount));
  at('retry').addEventListener('click', () => void resume());
  at('other').addEventListener('click', () => location.assign('/buy'));
  at('again').addEventListener('click', (event) => {
    event.preventDefault();
    location.assign('/buy');
  });
  at('forget').addEventListener('click', () => void forget());
  at('by-browser').addEventListener('click', () => current?.request && void payByBrowserWallet(current.request));
  document.addEventListener('webln:ready', offerBrowserWallet);
  addEventListener('hashchange', () => void resume());
  await resume();
}

void start();
