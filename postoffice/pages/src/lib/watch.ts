// Notices a change at the mint as soon as it can be known: by a subscription (NUT-17), by asking again and again, and
// at once when the page comes back to the front or the network returns. The subscription only says that it is time to
// ask: there is one way to learn a state.

const SOON = 2_000;
const LATER = 10_000;
const BESIDE_SOCKET = 15_000;
const [CONNECTING, OPEN] = [0, 1];

export interface Watched {
  /** address of the mint's WebSocket */
  socket: string;
  kind: 'bolt11_mint_quote' | 'proof_state';
  filters: string[];
  /** asks for the state; what it throws is taken as "not known now" */
  look: () => Promise<void>;
}

/** Looks until the returned function is called. */
export function watch({ socket, kind, filters, look }: Watched): () => void {
  let ended = false;
  let busy = false;
  let again = false;
  let looks = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let wait = 1_000;
  let line: WebSocket | undefined;

  async function now(): Promise<void> {
    again = true;
    if (busy || ended) return;
    busy = true;
    clearTimeout(timer);
    while (again && !ended) {
      again = false;
      try {
        await look();
      } catch {
        // the next look may succeed; what to tell about it is the business of `look`
      }
    }
    busy = false;
    looks += 1;
    const live = line?.readyState === OPEN;
    if (!ended) timer = setTimeout(now, live ? BESIDE_SOCKET : looks < 60 ? SOON : LATER);
  }

  function connect(): void {
    clearTimeout(retry);
    if (ended || line?.readyState === OPEN || line?.readyState === CONNECTING) return;
    let opened: WebSocket;
    try {
      opened = line = new WebSocket(socket);
    } catch {
      // a browser that forbids it: asking goes on
      return;
    }
    opened.onopen = () => {
      wait = 1_000;
      opened.send(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'subscribe', params: { kind, subId: 'page', filters } }));
    };
    opened.onmessage = ({ data }) => {
      if (typeof data === 'string' && data.includes('"subscribe"') && data.includes('"payload"')) void now();
    };
    opened.onclose = () => {
      if (line === opened) line = undefined;
      if (ended) return;
      // what was told while it was cut is asked for
      void now();
      retry = setTimeout(connect, wait);
      wait = Math.min(wait * 2, 30_000);
    };
  }

  function front(): void {
    if (document.visibilityState !== 'visible') return;
    wait = 1_000;
    connect();
    void now();
  }

  const signals = [
    [document, 'visibilitychange'],
    [window, 'pageshow'],
    [window, 'focus'],
    [window, 'online'],
  ] as const;
  for (const [target, name] of signals) target.addEventListener(name, front);
  connect();
  void now();

  return () => {
    ended = true;
    clearTimeout(timer);
    clearTimeout(retry);
    for (const [target, name] of signals) target.removeEventListener(name, front);
    line?.close();
  };
}
