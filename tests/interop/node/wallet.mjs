// cashu-ts as a customer: buys N stamps (the second half by a quote locked to a key, NUT-20), sends some to itself,
// hands one out. usage: wallet.mjs MINT_URL N  →  one JSON object on stdout
import { bytesToHex } from '@noble/hashes/utils.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { Wallet, getEncodedToken } from '@cashu/cashu-ts';

const [mint, count] = [process.argv[2], Number(process.argv[3])];
const total = (proofs) => proofs.reduce((sum, proof) => sum + Number(proof.amount.toString()), 0);

const wallet = new Wallet(mint, { unit: 'sat' });
await wallet.loadMint();

async function paid(quote) {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    if ((await wallet.checkMintQuoteBolt11(quote.quote)).state === 'PAID') return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error('the invoice did not settle');
}

const half = Math.floor(count / 2);
const quote = await wallet.createMintQuoteBolt11(count - half);
await paid(quote);
let proofs = await wallet.mintProofsBolt11(count - half, quote);

const key = secp256k1.utils.randomSecretKey();
const locked = await wallet.createLockedMintQuote(half, bytesToHex(secp256k1.getPublicKey(key, true)));
await paid(locked);
// the library refuses a wrong key by itself, so an unsigned request goes out by hand
const refused = await fetch(`${mint}/v1/mint/bolt11`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({
    quote: locked.quote,
    outputs: Array.from({ length: half }, () => ({
      amount: 1,
      id: wallet.keysetId,
      B_: bytesToHex(secp256k1.getPublicKey(secp256k1.utils.randomSecretKey(), true)),
    })),
  }),
});
const unsigned = (await refused.json()).code;
proofs = proofs.concat(await wallet.mintProofsBolt11(half, locked, { privkey: bytesToHex(key) }));
const bought = total(proofs);

const { keep, send } = await wallet.send(3, proofs);
const received = await wallet.receive(getEncodedToken({ mint, unit: 'sat', proofs: send }));
const spentStates = (await wallet.checkProofsStates(send)).map((state) => state.state);

const split = await wallet.send(1, [...keep, ...received]);
const left = (await wallet.checkProofsStates(split.keep)).map((state) => state.state);
console.log(
  JSON.stringify({
    keyset: split.keep[0].id,
    bought,
    unsigned,
    received: total(received),
    spentStates,
    balance: total(split.keep),
    left,
    token: getEncodedToken({ mint, unit: 'sat', proofs: split.send }),
  }),
);
