// Signs an operator in by a browser extension that keeps a Nostr key (NIP-07): a request signed by NIP-98.
interface Signer {
  signEvent(draft: { kind: number; created_at: number; tags: string[][]; content: string }): Promise<object>;
}

const LOGIN = '/operator/login';
const button = document.getElementById('sign') as HTMLButtonElement | null;
const problem = document.getElementById('problem');
const url = button?.dataset['url'] ?? '';

function signer(): Signer | undefined {
  return (window as { nostr?: Signer }).nostr;
}

function show(): void {
  if (!button || !signer()) return;
  button.hidden = false;
  document.getElementById('none')?.remove();
}

async function sign(): Promise<void> {
  const empty = await crypto.subtle.digest('SHA-256', new Uint8Array());
  const payload = Array.from(new Uint8Array(empty), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const event = await signer()!.signEvent({
    kind: 27235,
    created_at: Math.floor(Date.now() / 1000),
    tags: [['u', url], ['method', 'POST'], ['payload', payload]],
    content: '',
  });
  const answer = await fetch(LOGIN, {
    method: 'POST',
    headers: { authorization: `Nostr ${btoa(JSON.stringify(event))}` },
    redirect: 'manual',
  });
  // a redirect that is not followed has no status: the cookie is set
  if (answer.type === 'opaqueredirect') {
    location.assign('/operator');
    return;
  }
  const said: { detail?: string } = await answer.json().catch(() => ({}));
  throw new Error(said.detail ?? `The office answered ${answer.status}.`);
}

button?.addEventListener('click', () => {
  button.disabled = true;
  if (problem) problem.textContent = '';
  sign().catch((error: unknown) => {
    button.disabled = false;
    if (problem) problem.textContent = error instanceof Error ? error.message : 'The extension did not sign.';
  });
});

// extensions may come a moment after the page
show();
addEventListener('load', () => setTimeout(show, 300));
