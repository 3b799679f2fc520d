// A wallet of somebody else: @getalby/sdk's NWCWalletService before an LND node. It serves until stdin ends.
// usage: nwc.mjs, with one JSON object on the first line of stdin  →  "ready" on stdout when it serves
//   relay, walletSecret, clientPubkey; rest, cert (PEM), macaroon (hex) of the node; notify: whether it tells of payments
import https from 'node:https';
import readline from 'node:readline';
import { NWCWalletService, NWCWalletServiceKeyPair } from '@getalby/sdk/nwc';

const lines = readline.createInterface({ input: process.stdin });
const given = JSON.parse((await lines[Symbol.asyncIterator]().next()).value);
lines.on('close', () => process.exit(0));

const agent = new https.Agent({ ca: given.cert, checkServerIdentity: () => undefined });
const headers = { 'Grpc-Metadata-macaroon': given.macaroon };

function open(method, path, answered) {
  return https.request(new URL(path, given.rest), { method, agent, headers }, answered);
}

function ask(method, path, body) {
  return new Promise((done, fail) => {
    const request = open(method, path, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => done([response.statusCode, JSON.parse(Buffer.concat(parts).toString())]));
    });
    request.setTimeout(8_000, () => request.destroy(new Error('the node is silent')));
    request.on('error', fail);
    request.end(body && JSON.stringify(body));
  });
}

const hex = (base64) => Buffer.from(base64, 'base64').toString('hex');
const STATES = { SETTLED: 'settled', OPEN: 'pending', ACCEPTED: 'accepted', CANCELED: 'expired' };

function transaction(invoice) {
  const settled = invoice.state === 'SETTLED';
  return {
    type: 'incoming',
    state: STATES[invoice.state],
    invoice: invoice.payment_request,
    description: invoice.memo,
    payment_hash: hex(invoice.r_hash),
    amount: Number(settled ? invoice.amt_paid_msat : invoice.value_msat),
    fees_paid: 0,
    created_at: Number(invoice.creation_date),
    expires_at: Number(invoice.creation_date) + Number(invoice.expiry),
    ...(settled && { settled_at: Number(invoice.settle_date), preimage: hex(invoice.r_preimage) }),
  };
}

const refuse = (code) => ({ result: undefined, error: { code, message: code } });

const handler = {
  async makeInvoice({ amount, description, expiry }) {
    try {
      const order = { value_msat: String(amount), memo: description, expiry: String(expiry), private: true };
      const [status, made] = await ask('POST', '/v1/invoices', order);
      if (status !== 200) return refuse('INTERNAL');
      const [, found] = await ask('GET', `/v1/invoice/${hex(made.r_hash)}`);
      return { result: transaction(found), error: undefined };
    } catch {
      return refuse('INTERNAL');
    }
  },
  async lookupInvoice({ payment_hash }) {
    try {
      const [status, found] = await ask('GET', `/v1/invoice/${payment_hash}`);
      if (status === 404) return refuse('NOT_FOUND');
      if (status !== 200) return refuse('INTERNAL');
      return { result: transaction(found), error: undefined };
    } catch {
      return refuse('INTERNAL');
    }
  },
};

const service = new NWCWalletService({ relayUrls: [given.relay] });
const pair = new NWCWalletServiceKeyPair(given.walletSecret, given.clientPubkey);

// the service has no method for notifications: they are made of its own parts
async function tell(invoice) {
  const content = JSON.stringify({ notification_type: 'payment_received', notification: transaction(invoice) });
  for (const [kind, encryption] of [[23197, 'nip44_v2'], [23196, 'nip04']]) {
    const event = await service.signEvent(
      {
        kind,
        created_at: Math.floor(Date.now() / 1000),
        tags: [['p', given.clientPubkey]],
        content: await service.encrypt(pair, content, encryption),
      },
      given.walletSecret,
    );
    await Promise.allSettled(service.pool.publish([given.relay], event));
  }
}

function follow() {
  const again = () => setTimeout(follow, 500);
  const request = open('GET', '/v1/invoices/subscribe', (response) => {
    const updates = readline.createInterface({ input: response });
    updates.on('line', (line) => {
      const { result } = JSON.parse(line);
      if (result?.state === 'SETTLED') tell(result);
    });
    // the node may end at any time
    updates.on('error', () => undefined);
    response.on('error', () => undefined);
    response.on('close', again);
  });
  request.on('error', again);
  request.end();
}

const methods = ['make_invoice', 'lookup_invoice'];
await service.publishWalletServiceInfoEvent(given.walletSecret, methods, given.notify ? ['payment_received'] : []);
await service.subscribe(pair, handler);
if (given.notify) follow();
console.log('ready');
