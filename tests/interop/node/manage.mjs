// A signer of NIP-98 that is not ours (nostr-tools). One JSON object in, one out.
//   {"secret", "url", "method", "body"}   → {"authorization"}      `body` is signed as JSON.stringify writes it
import { hexToBytes } from '@noble/hashes/utils.js';
import { finalizeEvent } from 'nostr-tools/pure';
import { getToken } from 'nostr-tools/nip98';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const asked = JSON.parse(Buffer.concat(chunks).toString());
const sign = (event) => finalizeEvent(event, hexToBytes(asked.secret));
const authorization = await getToken(asked.url, asked.method, sign, true, asked.body);
console.log(JSON.stringify({ authorization, body: JSON.stringify(asked.body) }));
