// cashu-ts, which writes the newer form alone, receives a token that somebody made in the older one (NUT-00, V3 tokens).
// usage: older.mjs MINT_URL TOKEN  →  {received, memo} on stdout
import { Wallet, getTokenMetadata } from '@cashu/cashu-ts';

const [mint, token] = process.argv.slice(2);
const wallet = new Wallet(mint, { unit: 'sat' });
await wallet.loadMint();
const received = await wallet.receive(token);
console.log(
  JSON.stringify({
    received: received.reduce((sum, proof) => sum + Number(proof.amount.toString()), 0),
    memo: getTokenMetadata(token).memo,
  }),
);
