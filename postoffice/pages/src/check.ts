// The check page: reads tokens here, asks the mint which stamps are spent, makes one token of what is left.
//
// A merge is kept like a purchase, before the old stamps are handed over: its secret gives the new stamps, and the mint
// gives the same signatures again, so a merge that was cut off is finished when the page is opened the next time. One that
// can never be finished, since somebody else was faster, is not begun again: what is left of the old stamps is shown.

import { at, make, show } from './lib/dom';
import { Elsewhere, Mint, Refusal, Unreachable } from './lib/mint';
import { alive, announce, copying, shop, stamps, warnUnlessKept } from './lib/page';
import { fragment, fresh, parse, type Input, type Purchase } from './lib/purchase';
import { Shelf } from './lib/shelf';
import { command, showToken } from './lib/token-view';

const TOKEN = /cashu[AB][A-Za-z0-9_=-]+/g;
const MOST_TOKENS = 100;
const MOST_PROOFS = 1_000;

const mint = new Mint(shop.at);
let shelf: Shelf;
let unspent: Input[] = [];
let current: Purchase | undefined;

interface Row {
  name: string;
  amount: number;
  state: string;
  bad: boolean;
}

async function check(): Promise<void> {
  const found = [...new Set(at<HTMLTextAreaElement>('tokens').value.match(TOKEN) ?? [])];
  const problem = at('tokens-problem');
  problem.textContent = '';
  if (!found.length) problem.textContent = 'There is no token in this text. A token begins with cashuA or cashuB.';
  if (found.length > MOST_TOKENS) problem.textContent = `At most ${MOST_TOKENS} tokens at once.`;
  if (problem.textContent) return at('tokens').focus();
  const { open, pointOf } = await import('./lib/stamps');
  const keysets = (await mint.keysets()).map(({ id }) => id);
  const rows: Row[] = [];
  const left = new Map<string, Input>();
  for (const [index, token] of found.entries()) {
    const name = `${index + 1}`;
    let opened;
    try {
      opened = open(token, keysets);
    } catch {
      rows.push({ name, amount: 0, state: 'Not readable: it may be cut off, or of a keyset this mint does not have.', bad: true });
      continue;
    }
    const { amount, proofs, locked } = opened;
    if (normal(opened.mint) !== normal(shop.mint)) {
      rows.push({ name, amount, state: `Of another mint: ${opened.mint}`, bad: true });
    } else if (proofs.length > MOST_PROOFS) {
      rows.push({ name, amount, state: `More than ${MOST_PROOFS} proofs: open it in a wallet.`, bad: true });
    } else {
      const states = await mint.states(proofs.map(({ secret }) => pointOf(secret)));
      const good = proofs.filter((_, each) => states[each] === 'UNSPENT');
      for (const each of good) if (!each.secret.startsWith('["')) left.set(each.secret, each);
      rows.push({ name, amount, ...told(proofs, good, locked) });
    }
  }
  unspent = [...left.values()];
  tell(rows, found.length);
}

function told(all: Input[], good: Input[], locked: number): { state: string; bad: boolean } {
  const total = sum(good);
  const lock = locked ? ' Locked to a key: only its owner can exchange it.' : '';
  if (!good.length) return { state: 'Spent', bad: true };
  if (good.length === all.length) return { state: `Unspent.${lock}`, bad: false };
  return { state: `${stamps(total)} unspent, the rest is spent.${lock}`, bad: true };
}

function tell(rows: Row[], tokens: number): void {
  at('rows').replaceChildren(
    ...rows.map(({ name, amount, state, bad }) =>
      make(
        'tr',
        {},
        make('th', { scope: 'row' }, name),
        make('td', { class: 'number' }, amount.toLocaleString('en')),
        make('td', { class: bad ? 'spent' : 'good' }, state),
      ),
    ),
  );
  const text = unspent.length ? `${stamps(sum(unspent))} can be used.` : 'Nothing here can be used.';
  at('sums').textContent = text;
  const many = unspent.length > MOST_PROOFS;
  show(at('merging'), unspent.length > 0 && !many);
  at('merge').textContent = tokens > 1 ? 'Merge into one token' : 'Exchange for a new token';
  show(at('found'), true);
  show(at('done'), false);
  announce(text);
  at('found-title').focus();
}

let merging: Promise<void> | undefined;

/** Exchanges what is unspent, once however often it is clicked. */
function merge(): Promise<void> {
  merging ??= exchange().finally(() => (merging = undefined));
  return merging;
}

async function exchange(): Promise<void> {
  const keysets = new Map((await mint.keysets()).map((each) => [each.id, each.input_fee_ppk ?? 0]));
  const fee = Math.ceil(unspent.reduce((ppk, { id }) => ppk + (keysets.get(id) ?? 0), 0) / 1000);
  const amount = sum(unspent) - fee;
  if (amount < 1) {
    at('sums').textContent = 'The mint’s fee for an exchange is more than these stamps are worth.';
    return;
  }
  const [{ blinded }, keys] = await Promise.all([import('./lib/stamps'), mint.keys()]);
  const purchase = fresh(amount, unspent);
  await collected({ ...purchase, state: 'paid', outputs: blinded(purchase, keys) });
}

/** Finishes a merge and shows its stamps, or what hinders. The answer: whether the mint refuses it. */
async function collected(purchase: Purchase): Promise<boolean> {
  // another one may be begun while the mint is asked
  let merge = (current = await shelf.put(purchase));
  history.replaceState(null, '', fragment(merge));
  warnUnlessKept(shelf);
  try {
    const { collect } = await import('./lib/stamps');
    const token = merge.token ?? (await collect(mint, shop.mint, merge));
    merge = current = await shelf.put({ ...merge, state: 'done', token });
    show(at('trouble'), false);
    show(at('check'), false);
    show(at('found'), false);
    show(at('done'), true);
    const title = `${stamps(merge.amount)} in a new token`;
    announce(title);
    await showToken(mint, token, title);
    at('done-title').focus();
    return false;
  } catch (error) {
    stuck(error);
    if (error instanceof Elsewhere) await lost(merge);
    return refusedForGood(error);
  }
}

/** Somebody else spent stamps of this merge: what is left of them can be exchanged by itself. */
async function lost(merge: Purchase): Promise<void> {
  current = await shelf.put({ ...merge, state: 'lost' });
  if (!merge.inputs?.length) return;
  try {
    const { tokenOf } = await import('./lib/stamps');
    at<HTMLTextAreaElement>('tokens').value = tokenOf(shop.mint, merge.inputs);
    await check();
  } catch (error) {
    stuck(error);
  }
}

function refusedForGood(error: unknown): boolean {
  return error instanceof Refusal && !error.passes;
}

function stuck(error: unknown): void {
  const text =
    error instanceof Elsewhere
      ? 'The stamps were spent by somebody else in the meantime.'
      : error instanceof Unreachable
        ? 'The mint does not answer.'
        : error instanceof Refusal
          ? `The mint refused: ${error.detail || 'no reason given'}.`
          : `This page could not go on: ${error instanceof Error ? error.message : 'no reason is known'}.`;
  const lasting = error instanceof Elsewhere || refusedForGood(error);
  at('trouble-text').textContent = text;
  show(at('trouble-keep'), !lasting);
  show(at('retry'), !lasting);
  show(at('keep-link'), !lasting);
  show(at('drop'), lasting && Boolean(current));
  show(at('trouble'), true);
  announce(text);
  at('trouble-title').focus();
}

function sum(proofs: Input[]): number {
  return proofs.reduce((total, { amount }) => total + amount, 0);
}

function normal(url: string): string {
  return url.replace(/\/+$/, '').toLowerCase();
}

/** Runs one thing at a time, and says what went wrong. */
function guarded(button: HTMLElement, work: () => Promise<void>): () => Promise<void> {
  let busy = false;
  return async () => {
    if (busy) return;
    busy = true;
    button.setAttribute('aria-busy', 'true');
    try {
      await work();
    } catch (error) {
      stuck(error);
    } finally {
      busy = false;
      button.removeAttribute('aria-busy');
    }
  };
}

async function start(): Promise<void> {
  alive();
  shelf = await Shelf.open();
  warnUnlessKept(shelf);
  copying({
    token: () => current?.token ?? '',
    command: () => command(current?.token ?? ''),
    link: () => location.origin + location.pathname + (current ? fragment(current) : ''),
  });
  const go = guarded(at('go'), check);
  at('check').addEventListener('submit', (event) => {
    event.preventDefault();
    show(at('trouble'), false);
    void go();
  });
  at('merge').addEventListener('click', guarded(at('merge'), merge));
  at('retry').addEventListener('click', () => (current ? void collected(current) : void go()));
  for (const button of [at('forget'), at('drop')]) button.addEventListener('click', () => void forget());
  at('again').textContent = 'Check another';
  at<HTMLAnchorElement>('again').href = '/buy/check';
  at('again').addEventListener('click', (event) => {
    event.preventDefault();
    location.assign('/buy/check');
  });
  show(at('check'), true);
  const linked = parse(location.hash);
  if (linked?.inputs) {
    await collected({ ...linked, ...(await shelf.get(linked.secret)) });
    return;
  }
  // one that the mint refuses does not stand in the way of the next
  for (const each of await shelf.all()) {
    if (each.inputs && each.state === 'paid' && !(await collected(each))) return;
  }
}

async function forget(): Promise<void> {
  if (current) await shelf.forget(current.secret);
  location.assign('/buy/check');
}

void start();
