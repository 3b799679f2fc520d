// A nostr-tools client with a stamp from elsewhere: posts an event with it, reads it back with the library's Relay.
// usage: letter.mjs RELAY_URL TOKEN  →  one JSON object on stdout
import { Relay } from 'nostr-tools/relay';
import { finalizeEvent, generateSecretKey, getPublicKey, verifyEvent } from 'nostr-tools/pure';

const [url, token] = process.argv.slice(2);
const key = generateSecretKey();
const event = finalizeEvent(
  { kind: 1, created_at: Math.floor(Date.now() / 1000), tags: [['t', 'stamped']], content: 'posted by nostr-tools' },
  key,
);

// the library's publish() knows no third element, so the frame goes out by hand
function post(frame) {
  return new Promise((done, fail) => {
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send(JSON.stringify(frame));
    socket.onerror = () => fail(new Error('the connection failed'));
    socket.onmessage = ({ data }) => {
      const answer = JSON.parse(data);
      if (answer[0] === 'OK' && answer[1] === event.id) {
        socket.close();
        done(answer);
      }
    };
  });
}

const unstamped = await post(['EVENT', event]);
const stamped = await post(['EVENT', event, token]);
const again = await post(['EVENT', event, token]);

const relay = await Relay.connect(url);
relay.baseEoseTimeout = 20_000;
const found = [];
await new Promise((done, fail) => {
  const late = setTimeout(() => fail(new Error('no EOSE')), 20_000);
  const subscription = relay.subscribe([{ authors: [getPublicKey(key)], '#t': ['stamped'] }], {
    onevent: (stored) => found.push(stored),
    oneose: () => {
      clearTimeout(late);
      subscription.close();
      done();
    },
  });
});
relay.close();
console.log(JSON.stringify({ event, unstamped, stamped, again, found, verified: found.map((stored) => verifyEvent(stored)) }));
process.exit(0);
