// cashu-ts with a BIP-39 seed: buys N stamps, sends 3 away, and a second wallet of the same seed finds the rest again
// (NUT-09, NUT-13). usage: restore.mjs MINT_URL N  →  {left, found, unspent, after} on stdout
import { Wallet } from '@cashu/cashu-ts';

const [mint, count] = [process.argv[2], Number(process.argv[3])];
const total = (proofs) => proofs.reduce((sum, proof) => sum + Number(proof.amount.toString()), 0);
const bip39seed = crypto.getRandomValues(new Uint8Array(64));

const wallet = new Wallet(mint, { unit: 'sat', bip39seed });
await wallet.loadMint();
const quote = await wallet.createMintQuoteBolt11(count);
for (const end = Date.now() + 20_000; (await wallet.checkMintQuoteBolt11(quote.quote)).state !== 'PAID'; ) {
  if (Date.now() > end) throw new Error('the invoice did not settle');
  await new Promise((done) => setTimeout(done, 50));
}
const proofs = await wallet.ops.mintBolt11(count, quote).asDeterministic().run();
const { keep, send } = await wallet.ops.send(3, proofs).asDeterministic().keepAsDeterministic().run();
const stranger = new Wallet(mint, { unit: 'sat' });
await stranger.loadMint();
await stranger.receive(send);

const again = new Wallet(mint, { unit: 'sat', bip39seed });
await again.loadMint();
const { proofs: found, lastCounterWithSignature } = await again.batchRestore();
const states = await again.checkProofsStates(found);
const unspent = found.filter((_, place) => states[place].state === 'UNSPENT');
// the next outputs come after those that were found
await again.counters.advanceToAtLeast(again.keysetId, lastCounterWithSignature + 1);
const swapped = await again.ops.send(1, unspent).asDeterministic().keepAsDeterministic().run();
console.log(
  JSON.stringify({
    left: total(keep),
    found: total(found),
    unspent: total(unspent),
    after: total(swapped.keep) + total(swapped.send),
  }),
);
