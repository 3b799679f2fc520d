// What the buy and the check page share: what is sold, words for screen readers, copying.

import { at, show } from './dom';
import type { Shelf } from './shelf';

export interface Shop {
  /** the mint's public address, as tokens name it */
  mint: string;
  /** where it is asked; empty for this origin */
  at: string;
  /** the office's public address */
  office: string;
  /** stamps in one purchase; null where the mint decides */
  most: number | null;
  play: boolean;
}

export const shop = JSON.parse(at('shop').dataset['shop'] ?? '{}') as Shop;

/** The page's script runs: what is said where none does goes away. */
export function alive(): void {
  show(at('without-script'), false);
}

/** Says it to a screen reader. */
export function announce(text: string): void {
  const live = at('live');
  if (live.textContent !== text) live.textContent = text;
}

/** Warns where the browser keeps nothing. */
export function warnUnlessKept(shelf: Shelf): void {
  show(at('memory'), !shelf.durable);
}

/** "1 stamp", "1,000 stamps" */
export function stamps(count: number): string {
  return `${count.toLocaleString('en')} stamp${count === 1 ? '' : 's'}`;
}

/** Buttons with `data-copies` copy what `texts` gives for that name, and say so for a moment. */
export function copying(texts: Record<string, () => string>): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>('[data-copies]')) {
    const label = button.textContent ?? '';
    let timer: ReturnType<typeof setTimeout> | undefined;
    button.addEventListener('click', async () => {
      const copied = await copy(texts[button.dataset['copies'] ?? '']?.() ?? '');
      button.textContent = copied ? 'Copied ✓' : 'Select and copy it by hand';
      announce(copied ? 'Copied' : 'This browser does not let a page copy. Select the text and copy it by hand.');
      clearTimeout(timer);
      timer = setTimeout(() => (button.textContent = label), 2_500);
    });
  }
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // no clipboard without TLS, or not allowed: the old way
  }
  const field = document.createElement('textarea');
  field.value = text;
  field.setAttribute('aria-hidden', 'true');
  field.className = 'visually-hidden';
  document.body.append(field);
  field.select();
  try {
    return document.execCommand('copy');
  } finally {
    field.remove();
  }
}
