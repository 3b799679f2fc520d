// A wallet in this browser (WebLN): asked on a click, never before.

import { at, show } from './dom';

interface WebLn {
  enable(): Promise<unknown>;
  sendPayment(invoice: string): Promise<unknown>;
}

function browserWallet(): WebLn | undefined {
  const { webln } = window as { webln?: Partial<WebLn> };
  return typeof webln?.sendPayment === 'function' && typeof webln.enable === 'function' ? (webln as WebLn) : undefined;
}

/** Shows the button where there is a wallet, now or a moment later. */
export function offerBrowserWallet(): void {
  show(at('by-browser'), browserWallet() !== undefined);
}

let paying = false;

/** Has the wallet pay, once however often it is clicked. */
export async function payByBrowserWallet(request: string): Promise<void> {
  const webln = browserWallet();
  if (!webln || paying) return;
  paying = true;
  at('by-browser').setAttribute('aria-busy', 'true');
  at('pay-problem').textContent = '';
  try {
    await webln.enable();
    await webln.sendPayment(request);
  } catch (error) {
    const said = error instanceof Error && error.message ? `: ${error.message}` : '';
    at('pay-problem').textContent = `The wallet did not pay${said}.`;
  } finally {
    paying = false;
    at('by-browser').removeAttribute('aria-busy');
  }
}
