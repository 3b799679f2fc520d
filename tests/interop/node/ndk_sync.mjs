// NDK's negentropy (NIP-77, @nostr-dev-kit/sync), which reconciles what is in NDK's cache. One JSON object in, one out.
//   {"url", "known": [event, …], "filter"}: what the cache holds at first
import NDK, { NDKEvent } from '@nostr-dev-kit/ndk';
import { NDKSync } from '@nostr-dev-kit/sync';
import { matchFilters } from 'nostr-tools/filter';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const given = JSON.parse(Buffer.concat(chunks).toString());

// NDK's interface of a cache, in memory
const cached = new Map(given.known.map((event) => [event.id, event]));
const cacheAdapter = {
  locking: false,
  ready: true,
  query: (asked) => [...cached.values()].filter((event) => matchFilters(asked.filters, event)).map((event) => new NDKEvent(ndk, event)),
  setEvent: async (event) => void cached.set(event.id, event.rawEvent()),
};
const ndk = new NDK({ explicitRelayUrls: [given.url], cacheAdapter, enableOutboxModel: false, autoConnectUserRelays: false });
await ndk.connect(10_000);
const errors = [];
const rounds = [];
const sync = new NDKSync(ndk);
const once = () =>
  sync.sync(given.filter, {
    onRelayError: (relay, error) => errors.push(error.message),
    onNegotiationProgress: (relay, progress) => rounds.push(progress.phase),
  });
const found = await once();
const again = await once();
console.log(
  JSON.stringify({
    need: [...found.need],
    have: [...found.have],
    fetched: found.events.map((event) => event.id),
    again: [...again.need],
    supported: await sync.checkRelaySupport([...ndk.pool.relays.values()][0]),
    errors,
    rounds,
  }),
);
process.exit(0);
