// NIP-17 messages by nostr-tools and by NDK. One JSON object in, one out; `library` is "nostr-tools" or "ndk".
//   {"do": "write", "url", "secret", "to", "text", "subject", "reply"}   → {"id"}, posted at `url`
//   {"do": "name", "text"}                                               → what nostr-tools reads in a name (NIP-19)
//   {"do": "read", "url", "secret"}                                      → {"rumors": [{sender, content, kind, tags}, …]}
import { hexToBytes } from '@noble/hashes/utils.js';
import NDK, { giftUnwrap, giftWrap, NDKEvent, NDKPrivateKeySigner, NDKRelayAuthPolicies } from '@nostr-dev-kit/ndk';
import { finalizeEvent, getPublicKey } from 'nostr-tools/pure';
import { decode } from 'nostr-tools/nip19';
import { Relay } from 'nostr-tools/relay';
import { unwrapEvent, wrapEvent } from 'nostr-tools/nip17';

const PATIENCE = 20_000;

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const given = JSON.parse(Buffer.concat(chunks).toString());

async function byTools() {
  const secret = hexToBytes(given.secret);
  const relay = await Relay.connect(given.url);
  relay.publishTimeout = relay.baseEoseTimeout = PATIENCE;
  if (given.do === 'write') {
    const event = wrapEvent(secret, { publicKey: given.to }, given.text, given.subject, { eventId: given.reply });
    await relay.publish(event);
    return { id: event.id };
  }
  const rumors = [];
  // its auth() works only once the challenge is there, which nothing tells
  while (!relay.challenge) await new Promise((done) => setTimeout(done, 5));
  await relay.auth(async (draft) => finalizeEvent(draft, secret));
  await new Promise((done) => {
    relay.subscribe([{ kinds: [1059], '#p': [getPublicKey(secret)] }], {
      onevent: (event) => rumors.push(unwrapEvent(event, secret)),
      oneose: done,
    });
  });
  return { rumors: rumors.map(({ pubkey, content, kind, tags }) => ({ sender: pubkey, content, kind, tags })) };
}

async function byNdk() {
  const signer = new NDKPrivateKeySigner(given.secret);
  const ndk = new NDK({ explicitRelayUrls: [given.url], signer, enableOutboxModel: false, autoConnectUserRelays: false });
  ndk.relayAuthDefaultPolicy = NDKRelayAuthPolicies.signIn({ ndk, signer });
  await ndk.connect(10_000);
  const us = await signer.user();
  if (given.do === 'write') {
    const tags = [['p', given.to], ['e', given.reply], ['subject', given.subject]];
    const rumor = new NDKEvent(ndk, {
      kind: 14,
      content: given.text,
      created_at: Math.floor(Date.now() / 1000),
      pubkey: us.pubkey,
      tags,
    });
    const event = await giftWrap(rumor, ndk.getUser({ pubkey: given.to }), signer);
    await event.publish(undefined, PATIENCE);
    return { id: event.id };
  }
  const rumors = [];
  for (const event of await ndk.fetchEvents({ kinds: [1059], '#p': [us.pubkey] })) {
    const { pubkey, content, kind, tags } = await giftUnwrap(event, undefined, signer);
    rumors.push({ sender: pubkey, content, kind, tags });
  }
  return { rumors };
}

const work = given.do === 'name' ? async () => decode(given.text) : given.library === 'ndk' ? byNdk : byTools;
console.log(JSON.stringify(await work()));
process.exit(0);
