// The sums that the pages read in invoices. stdin: [text, …]   stdout: [sat or null, …]
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildSync } from 'esbuild';

const { outputFiles } = buildSync({
  entryPoints: [join(import.meta.dirname, '../src/lib/invoice.ts')],
  format: 'esm',
  write: false,
});
const { satOf } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map((text) => satOf(text) ?? null)));
