// A wallet of somebody else: @getalby/sdk's NWCWalletService before an LND node. It serves until stdin ends.
// usage: nwc.mjs, with one JSON object on the first line of stdin  →  "ready" on stdout when it serves
//   relay, walletSecret, clientPubkey; rest, cert (PEM), macaroon (hex) of the node; notify: whether it tells of payments
import https from 'node:https';
import readline from 'node:readline';
import { createHash } from 'node:crypto';
import { NWCWalletService, NWCWalletServiceKeyPair } from '@getalby/sdk/nwc';

const lines = readline.createInterface({ input: process.stdin });
const given = JSON.parse((await lines[Symbol.asyncIterator]().next()).value);
lines.on('close', () => process.exit(0));

const methods = ['make_invoice', 'lookup_invoice', 'pay_invoice', 'pay_keysend', 'get_balance', 'get_info'];
const agent = new https.Agent({ ca: given.cert, checkServerIdentity: () => undefined });
const headers = { 'Grpc-Metadata-macaroon': given.macaroon };

function open(method, path, answered) {
  return https.request(new URL(path, given.rest), { method, agent, headers }, answered);
}

function ask(method, path, body, patience = 8_000) {
  return new Promise((done, fail) => {
    const request = open(method, path, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => done([response.statusCode, JSON.parse(Buffer.concat(parts).toString())]));
    });
    request.setTimeout(patience, () => request.destroy(new Error('the node is silent')));
    request.on('error', fail);
    request.end(body && JSON.stringify(body));
  });
}

const hex = (base64) => Buffer.from(base64, 'base64').toString('hex');
const STATES = { SETTLED: 'settled', OPEN: 'pending', ACCEPTED: 'accepted', CANCELED: 'expired' };

function records(invoice) {
  const found = (invoice.htlcs ?? []).flatMap((each) => Object.entries(each.custom_records ?? {}));
  return found.map(([type, value]) => ({ type: Number(type), value: hex(value) }));
}

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
    metadata: { tlv_records: records(invoice) },
    ...(settled && { settled_at: Number(invoice.settle_date), preimage: hex(invoice.r_preimage) }),
  };
}

const refuse = (code) => ({ result: undefined, error: { code, message: code } });

async function pay(order) {
  const limits = { timeout_seconds: 30, fee_limit_msat: '10000', no_inflight_updates: true };
  const [status, { result }] = await ask('POST', '/v2/router/send', { ...order, ...limits }, 40_000);
  if (status !== 200 || result?.status !== 'SUCCEEDED') return refuse('PAYMENT_FAILED');
  return { result: { preimage: result.payment_preimage, fees_paid: Number(result.fee_msat) }, error: undefined };
}

async function sent(payment_hash) {
  // a macaroon for invoices alone shows no payments
  const [status, { payments }] = await ask('GET', '/v1/payments?include_incomplete=true');
  const found = status === 200 && payments.find((each) => each.payment_hash === payment_hash);
  if (!found) return refuse('NOT_FOUND');
  const states = { SUCCEEDED: 'settled', FAILED: 'failed' };
  const result = {
    type: 'outgoing',
    state: states[found.status] ?? 'pending',
    payment_hash,
    preimage: found.payment_preimage,
    fees_paid: Number(found.fee_msat),
  };
  return { result, error: undefined };
}

const handler = {
  async makeInvoice({ amount, description, description_hash, expiry }) {
    try {
      const described = description_hash
        ? { description_hash: Buffer.from(description_hash, 'hex').toString('base64') }
        : { memo: description };
      const order = { value_msat: String(amount), ...described, expiry: String(expiry), private: true };
      const [status, made] = await ask('POST', '/v1/invoices', order);
      if (status !== 200) return refuse('INTERNAL');
      const [, found] = await ask('GET', `/v1/invoice/${hex(made.r_hash)}`);
      return { result: transaction(found), error: undefined };
    } catch {
      return refuse('INTERNAL');
    }
  },
  async payInvoice({ invoice }) {
    return pay({ payment_request: invoice });
  },
  async payKeysend({ amount, pubkey, preimage, tlv_records }) {
    const base64 = (text) => Buffer.from(text, 'hex').toString('base64');
    const records = Object.fromEntries((tlv_records ?? []).map(({ type, value }) => [type, base64(value)]));
    return pay({
      dest: base64(pubkey),
      amt_msat: String(amount),
      payment_hash: createHash('sha256').update(Buffer.from(preimage, 'hex')).digest('base64'),
      dest_custom_records: { ...records, 5482373484: base64(preimage) },
      dest_features: ['TLV_ONION_REQ'],
    });
  },
  async getBalance() {
    const [, found] = await ask('GET', '/v1/balance/channels');
    return { result: { balance: Number(found.local_balance.msat) }, error: undefined };
  },
  async getInfo() {
    return { result: { alias: 'bed', network: 'regtest', methods }, error: undefined };
  },
  async lookupInvoice({ payment_hash }) {
    try {
      const [status, found] = await ask('GET', `/v1/invoice/${payment_hash}`);
      if (status === 404) return await sent(payment_hash);
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

await service.publishWalletServiceInfoEvent(given.walletSecret, methods, given.notify ? ['payment_received'] : []);
await service.subscribe(pair, handler);
if (given.notify) follow();
console.log('ready');
