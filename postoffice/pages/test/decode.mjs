// Reads QR codes as a scanner would, and several as the parts of one animated code (NUT-16).
// stdin: [{ "size": modules a side, "path": "M0 0h7v1h-7z…" }, …]   stdout: { "texts": […], "whole": text or null }
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';
import decodeQR from 'qr/decode.js';

const SCALE = 4;

// bc-ur as it is published does not load in Node: bundled it does, as in the wallets that use it
const bundled = await build({
  stdin: { contents: "export { URDecoder } from '@gandlaf21/bc-ur'", resolveDir: import.meta.dirname },
  bundle: true,
  format: 'esm',
  write: false,
});
const { URDecoder } = await import(`data:text/javascript;base64,${Buffer.from(bundled.outputFiles[0].contents).toString('base64')}`);

function pixels({ size, path }) {
  const side = size * SCALE;
  const data = new Uint8ClampedArray(side * side * 4).fill(255);
  for (const [, x, y, width] of path.matchAll(/M(\d+) (\d+)h(\d+)v1/g)) {
    for (let row = y * SCALE; row < (Number(y) + 1) * SCALE; row++) {
      for (let column = x * SCALE; column < (Number(x) + Number(width)) * SCALE; column++) {
        data.fill(0, 4 * (row * side + column), 4 * (row * side + column) + 3);
      }
    }
  }
  return { width: side, height: side, data };
}

const codes = JSON.parse(readFileSync(0, 'utf8'));
const texts = codes.map((code) => decodeQR(pixels(code), { effort: Infinity, timeLimit: Infinity }));
const decoder = new URDecoder();
for (const text of texts) if (/^ur:/i.test(text)) decoder.receivePart(text.toLowerCase());
const whole = decoder.isComplete() ? new TextDecoder().decode(decoder.resultUR().decodeCBOR()) : null;
console.log(JSON.stringify({ texts, whole }));
