// cashu-ts while the mint rotates: buys 8 stamps and has a second purchase paid, says "ready", waits for a line, then
// goes on with what it knows.   usage: rotate.mjs MINT_URL  →  "ready", later one JSON object on stdout
import { createInterface } from 'node:readline';
import { Wallet, getEncodedToken } from '@cashu/cashu-ts';

const mint = process.argv[2];
const total = (proofs) => proofs.reduce((sum, proof) => sum + Number(proof.amount.toString()), 0);
const wallet = new Wallet(mint, { unit: 'sat' });
await wallet.loadMint();

async function paidQuote(amount) {
  const quote = await wallet.createMintQuoteBolt11(amount);
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    if ((await wallet.checkMintQuoteBolt11(quote.quote)).state === 'PAID') return quote;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error('the invoice did not settle');
}

// what the library leaves to its app, on any 12xxx: fetch the keysets, once, sign with the active one, have the keys of
// the old one for the DLEQ of stamps in hand, and repeat
const refusals = [];
async function following(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error.code >= 12_000 && error.code < 13_000)) throw error;
    refusals.push(error.code);
    await wallet.loadMint(true);
    wallet.bindKeyset(wallet.keyChain.getCheapestKeyset().id);
    await wallet.keyChain.ensureKeysetKeys(before);
    return await work();
  }
}

const proofs = await wallet.mintProofsBolt11(8, await paidQuote(8));
const before = wallet.keysetId;
const waiting = await paidQuote(4);
console.log('ready');
for await (const _line of createInterface({ input: process.stdin })) break;

const more = await following(() => wallet.mintProofsBolt11(4, waiting));
const { keep, send } = await following(() => wallet.send(3, proofs));
const received = await following(() => wallet.receive(getEncodedToken({ mint, unit: 'sat', proofs: send })));
console.log(
  JSON.stringify({
    refusals,
    before,
    after: wallet.keysetId,
    keysets: [...new Set([...more, ...received].map((proof) => proof.id))],
    balance: total(more) + total(keep) + total(received),
  }),
);
process.exit(0);
