// Ordinary NIP-59 and NIP-17 code on both ends of our gift wraps. One JSON object in, one out.
//   {"do": "unwrap", "event", "secret"}          → {"rumor"}
//   {"do": "wrap", "secret", "to", "text"}       → {"event"}
import { hexToBytes } from '@noble/hashes/utils.js';
import { unwrapEvent } from 'nostr-tools/nip59';
import { wrapEvent } from 'nostr-tools/nip17';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const asked = JSON.parse(Buffer.concat(chunks).toString());
const secret = hexToBytes(asked.secret);
const answer =
  asked.do === 'unwrap'
    ? { rumor: unwrapEvent(asked.event, secret) }
    : { event: wrapEvent(secret, { publicKey: asked.to }, asked.text) };
console.log(JSON.stringify(answer));
