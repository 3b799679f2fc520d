// Small helpers over the page's elements. Nothing here takes markup: text is text.

/** The element with this id; it is in the page, or the page and its script are not of one build. */
export function at<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** Shows or hides. */
export function show(element: Element, visible: boolean): void {
  element.toggleAttribute('hidden', !visible);
}

/** An element with attributes and children. */
export function make(name: string, attributes: Record<string, string> = {}, ...children: (Node | string)[]): HTMLElement {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
