// cashu-ts as a customer that waits instead of asking (NUT-17), and mints two quotes at once (NUT-29).
// usage: subscribe.mjs MINT_URL  →  one JSON object on stdout
import { bytesToHex } from '@noble/hashes/utils.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { Wallet } from '@cashu/cashu-ts';

const mint = process.argv[2];
const wallet = new Wallet(mint, { unit: 'sat' });
await wallet.loadMint();

// a promise for what a subscription is told, in the order it comes, until `enough` says so
function told(subscribe, enough) {
  return new Promise((done, fail) => {
    const all = [];
    const over = setTimeout(() => fail(new Error(`only ${JSON.stringify(all)} was told`)), 20_000);
    subscribe(
      (payload) => {
        all.push(payload);
        if (enough(all)) {
          clearTimeout(over);
          done([...all]);
        }
      },
      (error) => {
        clearTimeout(over);
        fail(error);
      },
    ).catch(fail);
  });
}

const key = secp256k1.utils.randomSecretKey();
const plain = await wallet.createMintQuoteBolt11(5);
const locked = await wallet.createLockedMintQuote(3, bytesToHex(secp256k1.getPublicKey(key, true)));
const ids = [plain.quote, locked.quote];
const paid = await told(
  (cb, err) => wallet.on.mintQuoteUpdates(ids, cb, err),
  (all) => ids.every((id) => all.some((each) => each.quote === id && each.state === 'PAID')),
);

const checked = await wallet.checkMintQuoteBatchBolt11(ids);
const preview = await wallet.prepareBatchMint(
  'bolt11',
  [
    { amount: 5, quote: plain },
    { amount: 3, quote: locked },
  ],
  { privkey: bytesToHex(key) },
);
const proofs = await wallet.completeBatchMint(preview);

const states = told(
  (cb, err) => wallet.on.proofStateUpdates(proofs, cb, err),
  (all) => all.filter((each) => each.state === 'SPENT').length === proofs.length,
);
// what is told first must be the state before it is spent
await new Promise((done) => setTimeout(done, 300));
await wallet.receive({ mint, unit: 'sat', proofs });

console.log(
  JSON.stringify({
    paid: paid.map((each) => each.state),
    checked: checked.map((each) => [each.quote, each.state]),
    quotes: ids,
    minted: proofs.reduce((sum, proof) => sum + Number(proof.amount.toString()), 0),
    proofs: proofs.length,
    states: (await states).map((each) => each.state),
    issued: (await wallet.checkMintQuoteBatchBolt11(ids)).map((each) => each.state),
  }),
);
process.exit(0);
