// The token: to copy, to scan, to open, to keep as a file; and whether a wallet has taken it.

import { at, show } from './dom';
import type { Mint } from './mint';
import { announce, shop } from './page';
import { watch } from './watch';

/** Bytes in a QR code that phones scan from a screen without effort, and in each part of a moving one. */
const STILL = 700;
const PART = 140;
const EACH = 220;
/** Milliseconds until a mint that did not say what a token consists of is asked again. */
const AGAIN = 2_000;

let stop = (): void => {};

/** Shows the token, and looks whether it is spent until another is shown. Never fails: the token itself needs nobody. */
export async function showToken(mint: Mint, token: string, title: string): Promise<void> {
  stop();
  at('done-title').textContent = title;
  at<HTMLTextAreaElement>('token').value = token;
  at<HTMLAnchorElement>('cashu').href = `cashu:${token}`;
  at('command').textContent = command(token);
  const link = at<HTMLAnchorElement>('download');
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([`${token}\n`], { type: 'text/plain' }));
  show(at('taken'), false);
  const ends = [followed(mint, token)];
  stop = () => ends.forEach((end) => end());
  try {
    ends.push(await drawn(token));
  } catch {
    at('token-caption').textContent = 'The code could not be drawn: copy the token instead.';
  }
}

/** What to type to take the stamps into the command line's wallet. */
export function command(token: string): string {
  return `pennypost wallet receive ${token} --office ${shop.office}`;
}

async function drawn(token: string): Promise<() => void> {
  const [{ QrCode }, { parts }] = await Promise.all([import('./qr'), import('./ur')]);
  const still = token.length <= STILL;
  const shown = still ? [token] : parts(token, PART);
  const code = new QrCode(shown[0] as string);
  at('token-qr').replaceChildren(code.element);
  at('token-caption').textContent = still
    ? 'Scan it with a Cashu wallet.'
    : 'A moving code: hold the scanner still until it has all of it.';
  const pause = at<HTMLButtonElement>('pause');
  show(pause, !still);
  if (still) return () => {};
  let index = 0;
  let timer: ReturnType<typeof setInterval> | undefined;
  const run = (): void => {
    timer = setInterval(() => code.draw(shown[(index = (index + 1) % shown.length)] as string), EACH);
    pause.textContent = 'Stop the moving code';
  };
  const rest = (): void => {
    clearInterval(timer);
    timer = undefined;
    pause.textContent = 'Let the code move';
  };
  pause.onclick = () => (timer === undefined ? run() : rest());
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) rest();
  else run();
  return () => clearInterval(timer);
}

/** Looks as soon as the mint answers, until the returned function is called. */
function followed(mint: Mint, token: string): () => void {
  let ended = false;
  let end = (): void => {};
  const begin = async (): Promise<void> => {
    try {
      const points = await pointsOf(mint, token);
      if (!ended) end = watched(mint, points);
    } catch {
      if (ended) return;
      const timer = setTimeout(begin, AGAIN);
      end = () => clearTimeout(timer);
    }
  };
  void begin();
  return () => {
    ended = true;
    end();
  };
}

async function pointsOf(mint: Mint, token: string): Promise<string[]> {
  const { open, pointOf } = await import('./stamps');
  const keysets = (await mint.keysets()).map(({ id }) => id);
  return open(token, keysets).proofs.map(({ secret }) => pointOf(secret));
}

function watched(mint: Mint, points: string[]): () => void {
  let told = '';
  const end = watch({
    socket: mint.socket,
    kind: 'proof_state',
    filters: points,
    look: async () => {
      const spent = (await mint.states(points)).filter((state) => state === 'SPENT').length;
      if (!spent) return;
      const all = spent === points.length;
      const text = all
        ? 'Taken: a wallet has these stamps now, and the token above is void.'
        : 'Some of these stamps are spent already. Check the token to see what is left of it.';
      show(at('taken'), true);
      at('taken').textContent = text;
      if (text !== told) announce(text);
      told = text;
      if (all) end();
    },
  });
  return end;
}
