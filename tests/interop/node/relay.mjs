// A relay client of ordinary code (nostr-tools). One JSON object in, one out.
//   {"url", "alice", "bob", "records": [[created_at, id], …]}: secret keys in hex
import { hexToBytes } from '@noble/hashes/utils.js';
import { finalizeEvent, getPublicKey } from 'nostr-tools/pure';
import { Relay } from 'nostr-tools/relay';
import { wrapEvent } from 'nostr-tools/nip17';
import { unwrapEvent } from 'nostr-tools/nip59';
import { nip77 } from 'nostr-tools';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const given = JSON.parse(Buffer.concat(chunks).toString());
const [alice, bob] = [hexToBytes(given.alice), hexToBytes(given.bob)];
const author = getPublicKey(alice);
const now = Math.floor(Date.now() / 1000);
const note = (content, kind = 1, tags = []) => finalizeEvent({ kind, created_at: now, tags, content }, alice);

const relay = await Relay.connect(given.url);
relay.publishTimeout = relay.baseEoseTimeout = 20_000;
const heard = [];
const stored = new Promise((done) => {
  relay.subscribe([{ authors: [author] }], { onevent: (event) => heard.push(event.id), oneose: done });
});
await stored;
const notes = [note('one'), note('two')];
const answers = [];
for (const each of notes) answers.push(await relay.publish(each));
const count = await relay.count([{ authors: [author], kinds: [1] }], {});
await relay.publish(note('', 5, [['e', notes[0].id]]));
const left = await relay.count([{ authors: [author], kinds: [1] }], {});
const refused = await relay.publish(notes[0]).then(() => '', (error) => error.message);

await relay.auth(async (draft) => finalizeEvent(draft, alice));
const guarded = await relay.publish(note('for members', 1, [['-']]));

const wrap = wrapEvent(alice, { publicKey: getPublicKey(bob) }, 'hello Bob');
await relay.publish(wrap);
const mail = await new Promise((done) => {
  relay.subscribe([{ kinds: [1059], '#p': [getPublicKey(bob)] }], { onevent: (event) => done(unwrapEvent(event, bob)) });
});

const storage = new nip77.NegentropyStorageVector();
for (const [time, id] of given.records) storage.insert(time, id);
storage.seal();
const [have, need] = [[], []];
await new Promise((done, fail) => {
  const sync = new nip77.NegentropySync(relay, storage, given.filter, {
    onhave: (id) => have.push(id),
    onneed: (id) => need.push(id),
    onclose: (reason) => (reason ? fail(new Error(reason)) : done()),
  });
  sync.start();
});
relay.close();
console.log(JSON.stringify({ ids: notes.map((each) => each.id), heard, answers, count, left, refused, guarded, mail: mail.content, have, need }));
process.exit(0);
