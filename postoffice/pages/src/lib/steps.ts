// The steps of the buy page: one section is shown at a time.

import { at, show } from './dom';
import { announce } from './page';

const SECTIONS = ['choose', 'busy', 'pay', 'done', 'over', 'trouble'] as const;
type Step = (typeof SECTIONS)[number];

/** Shows a section in place of the others. */
export function section(name: Step): void {
  if (name === 'choose') title('Buy stamps');
  for (const each of SECTIONS) show(at(each), each === name);
  show(at('kept'), name === 'choose' && at('kept-list').childElementCount > 0);
  document.documentElement.dataset['step'] = name;
}

function title(text: string): void {
  document.title = document.title.replace(/^.*?(?= · )/, text);
}

/** Moves on to a section: its heading gets the focus, so that keyboard and screen reader are there too. */
export function move(name: Step, said: string): void {
  const moved = at(name).hasAttribute('hidden');
  section(name);
  announce(said);
  title(said);
  if (moved) at(`${name}-title`).focus();
}
