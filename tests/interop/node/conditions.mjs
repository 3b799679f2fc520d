// cashu-ts' verdict on spending conditions: cases as JSON on stdin, booleans on stdout.
// a case: {"inputs": [NUT-00 proofs], "message": what SIG_ALL signs, or null}
import { readFileSync } from 'node:fs';
import { isHTLCSpendAuthorised } from '@cashu/cashu-ts';

function good({ inputs, message }) {
  try {
    const asked = message === null ? inputs : inputs.slice(0, 1);
    return asked.every((proof) => isHTLCSpendAuthorised(proof, undefined, message ?? undefined));
  } catch {
    return false;
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(good)));
