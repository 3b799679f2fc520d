// A relay client of NDK. One JSON object in, one out: {"url", "alice", "bob", "token"}: secret keys in hex, a stamp
import NDK, { giftUnwrap, giftWrap, NDKEvent, NDKPrivateKeySigner, NDKRelayAuthPolicies } from '@nostr-dev-kit/ndk';

const PATIENCE = 20_000;

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const given = JSON.parse(Buffer.concat(chunks).toString());

async function client(secret) {
  const signer = new NDKPrivateKeySigner(secret);
  const ndk = new NDK({ explicitRelayUrls: [given.url], signer, enableOutboxModel: false, autoConnectUserRelays: false });
  ndk.relayAuthDefaultPolicy = NDKRelayAuthPolicies.signIn({ ndk, signer });
  await ndk.connect(10_000);
  return { ndk, signer, user: await signer.user() };
}

const [alice, bob] = [await client(given.alice), await client(given.bob)];
const heard = [];
const subscription = bob.ndk.subscribe({ authors: [alice.user.pubkey], kinds: [1] }, { closeOnEose: false });
subscription.on('event', (event) => heard.push(event.id));
await new Promise((done) => subscription.on('eose', done));

const notes = [];
for (const content of ['one', 'two']) {
  const event = new NDKEvent(alice.ndk, { kind: 1, content });
  await event.publish(undefined, PATIENCE);
  notes.push(event);
}
const guarded = new NDKEvent(alice.ndk, { kind: 1, content: 'for members', tags: [['-']] });
await guarded.publish(undefined, PATIENCE);
const fetched = [...(await bob.ndk.fetchEvents({ authors: [alice.user.pubkey], kinds: [1] }))].map((event) => event.id);
const counted = await bob.ndk.count({ authors: [alice.user.pubkey], kinds: [1] });
await (await notes[0].delete('a mistake', false)).publish(undefined, PATIENCE);
const left = [...(await bob.ndk.fetchEvents({ ids: notes.map((event) => event.id) }))].map((event) => event.id);

// a stamp by hand: publish() knows no third element, the connection sends any text
const byHand = new NDKEvent(alice.ndk, { kind: 7, content: '+' });
await byHand.sign();
const [relay] = alice.ndk.pool.relays.values();
await relay.connectivity.send(JSON.stringify(['EVENT', byHand.rawEvent(), given.token]));
let arrived = [];
for (const end = Date.now() + PATIENCE; Date.now() < end && arrived.length === 0; ) {
  arrived = [...(await bob.ndk.fetchEvents({ ids: [byHand.id] }))].map((event) => event.id);
}

const rumor = new NDKEvent(alice.ndk, {
  kind: 14,
  content: 'hello Bob',
  created_at: Math.floor(Date.now() / 1000),
  pubkey: alice.user.pubkey,
  tags: [['p', bob.user.pubkey]],
});
const wrap = await giftWrap(rumor, bob.user, alice.signer);
await wrap.publish(undefined, PATIENCE);
const [mail] = await bob.ndk.fetchEvents({ kinds: [1059], '#p': [bob.user.pubkey] });
const opened = await giftUnwrap(mail, undefined, bob.signer);
console.log(JSON.stringify({ ids: notes.map((event) => event.id), guarded: guarded.id, heard, fetched, count: counted.count, left, byHand: byHand.id, arrived, mail: opened.content }));
process.exit(0);
