// cashu-ts as a customer that waits instead of asking (NUT-17), and mints two quotes at once (NUT-29).
// usage: subscribe.mjs MINT_URL  →  [invoices] to pay, as soon as it listens; later one JSON object on stdout
import { bytesToHex } from '@noble/hashes/utils.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { Wallet } from '@cashu/cashu-ts';

const mint = process.argv[2];
const wallet = new Wallet(mint, { unit: 'sat' });
await wallet.loadMint();

// subscribes: a function that waits until `enough` says so of all that was told, in the order it came
function listen(subscribe) {
  const all = [];
  let broken;
  let look = () => undefined;
  const fail = (error) => {
    broken = error;
    look();
  };
  const hear = (payload) => {
    all.push(payload);
    look();
  };
  subscribe(hear, fail).catch(fail);
  return (enough) =>
    new Promise((done, refuse) => {
      const over = setTimeout(() => refuse(new Error(`only ${JSON.stringify(all)} was told`)), 30_000);
      look = () => {
        if (broken === undefined && !enough(all)) return;
        clearTimeout(over);
        look = () => undefined;
        if (broken === undefined) done([...all]);
        else refuse(broken);
      };
      look();
    });
}

const key = secp256k1.utils.randomSecretKey();
const plain = await wallet.createMintQuoteBolt11(5);
const locked = await wallet.createLockedMintQuote(3, bytesToHex(secp256k1.getPublicKey(key, true)));
const ids = [plain.quote, locked.quote];
const quotes = listen((cb, err) => wallet.on.mintQuoteUpdates(ids, cb, err));
const every = (state) => (all) => ids.every((id) => all.some((each) => each.quote === id && each.state === state));
await quotes(every('UNPAID'));
console.log(JSON.stringify([plain.request, locked.request]));
const paid = await quotes(every('PAID'));

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

const stamps = listen((cb, err) => wallet.on.proofStateUpdates(proofs, cb, err));
const each = (state) => (all) => all.filter((one) => one.state === state).length === proofs.length;
// what is told first must be the state before it is spent
await stamps(each('UNSPENT'));
await wallet.receive({ mint, unit: 'sat', proofs });
const states = await stamps(each('SPENT'));

console.log(
  JSON.stringify({
    paid: paid.map((each) => each.state),
    checked: checked.map((each) => [each.quote, each.state]),
    quotes: ids,
    minted: proofs.reduce((sum, proof) => sum + Number(proof.amount.toString()), 0),
    proofs: proofs.length,
    states: states.map((each) => each.state),
    issued: (await wallet.checkMintQuoteBatchBolt11(ids)).map((each) => each.state),
  }),
);
process.exit(0);
