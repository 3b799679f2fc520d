// cashu-ts locks stamps and opens them again: each lock is refused to everyone else first.
// usage: locks.mjs MINT_URL  →  {name of a lock: {refused: [codes], received, witness}} on stdout
import { bytesToHex } from '@noble/hashes/utils.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { Wallet, createHTLCHash } from '@cashu/cashu-ts';

const mint = process.argv[2];
const total = (proofs) => proofs.reduce((sum, proof) => sum + Number(proof.amount.toString()), 0);
const newKey = () => {
  const secret = secp256k1.utils.randomSecretKey();
  return { secret: bytesToHex(secret), pub: bytesToHex(secp256k1.getPublicKey(secret, true)) };
};

const wallet = new Wallet(mint, { unit: 'sat' });
await wallet.loadMint();
const quote = await wallet.createMintQuoteBolt11(64);
for (const end = Date.now() + 20_000; (await wallet.checkMintQuoteBolt11(quote.quote)).state !== 'PAID'; ) {
  if (Date.now() > end) throw new Error('the invoice did not settle');
  await new Promise((done) => setTimeout(done, 50));
}
let proofs = await wallet.mintProofsBolt11(64, quote);

const [alice, bob, eve] = [newKey(), newKey(), newKey()];
const { hash, preimage } = createHTLCHash();
const hour = Math.floor(Date.now() / 1000) + 3_600;
const locks = {
  p2pk: [{ pubkey: alice.pub }, [alice]],
  multisig: [{ pubkey: [alice.pub, bob.pub], requiredSignatures: 2 }, [alice, bob]],
  refund: [{ pubkey: alice.pub, locktime: 1, refundKeys: [bob.pub] }, [bob]],
  sigAll: [{ pubkey: alice.pub, sigFlag: 'SIG_ALL' }, [alice]],
  sigAllMultisig: [{ pubkey: [alice.pub, bob.pub], requiredSignatures: 2, sigFlag: 'SIG_ALL' }, [bob, alice]],
  htlc: [{ pubkey: alice.pub, hashlock: hash, locktime: hour, refundKeys: [bob.pub] }, [alice], preimage],
  expired: [{ pubkey: alice.pub, locktime: 1 }, []],
};

async function codeOf(work) {
  try {
    await work();
    return null;
  } catch (error) {
    return error.code ?? String(error);
  }
}

// the wallet would not even ask, so what it prepared goes out unsigned or with another's signature by hand
async function swapByHand(preview, witness) {
  const inputs = preview.inputs.map(({ amount, id, secret, C }) => ({
    amount: Number(amount.toString()),
    id,
    secret,
    C,
    ...(witness ? { witness } : {}),
  }));
  const outputs = preview.keepOutputs.map(({ blindedMessage: { amount, id, B_ } }) => ({
    amount: Number(amount.toString()),
    id,
    B_,
  }));
  const response = await fetch(`${mint}/v1/swap`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs, outputs }),
  });
  return (await response.json()).code ?? null;
}

const done = {};
for (const [name, [options, signers, opening]] of Object.entries(locks)) {
  const { keep, send } = await wallet.ops.send(3, proofs).asP2PK(options).run();
  proofs = keep;
  const refused = [];
  if (signers.length) {
    const preview = await wallet.prepareSwapToReceive(send);
    refused.push(await swapByHand(preview));
    refused.push(await swapByHand(preview, JSON.stringify({ signatures: ['00'.repeat(64)] })));
    refused.push(await codeOf(() => wallet.receive(send, { privkey: eve.secret })));
  }
  const opened = opening ? send.map((proof) => ({ ...proof, witness: { preimage: opening } })) : send;
  const preview = await wallet.prepareSwapToReceive(opened);
  const received = await wallet.completeSwap(preview, signers.map((signer) => signer.secret));
  const states = await wallet.checkProofsStates(send);
  done[name] = {
    refused,
    received: total(received.keep),
    states: states.map((state) => state.state),
    preimages: states.map((state) => (state.witness ? JSON.parse(state.witness).preimage : undefined)),
    preimage: opening,
  };
}
console.log(JSON.stringify(done));
