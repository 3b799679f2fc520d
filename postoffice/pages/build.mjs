// Builds the pages' files: every script, style and drawing directly in src/ becomes /assets/<name>-<hash>.<ext>.
// usage: node build.mjs [FOLDER]    FOLDER: ../pennypost_postoffice/pages/built, what the wheel carries
//
// The same sources give the same bytes, which tests/pages/test_build.py checks. manifest.json tells the server
// which file a name stands for; licences.txt has the terms of every package that went into a script.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, '../pennypost_postoffice/pages/built'));
const sources = readdirSync(join(here, 'src')).sort();
const entries = sources.filter((name) => ['.ts', '.css'].includes(extname(name)));

mkdirSync(out, { recursive: true });

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: entries.map((name) => `src/${name}`),
  outdir: out,
  entryNames: '[name]-[hash]',
  chunkNames: 'chunk-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  target: ['es2022', 'chrome105', 'firefox110', 'safari16'],
  minify: true,
  charset: 'utf8',
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
});

const manifest = {};
for (const [path, { entryPoint }] of Object.entries(metafile.outputs)) {
  if (entryPoint?.startsWith('src/') && !entryPoint.startsWith('src/lib/')) {
    manifest[basename(entryPoint).replace(/\.ts$/, '.js')] = basename(path);
  }
}

function keep(name, bytes) {
  const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 8).toUpperCase();
  manifest[name] = name.replace(/\.(\w+)$/, `-${hash}.$1`);
  writeFileSync(join(out, manifest[name]), bytes);
}

for (const name of sources.filter((name) => extname(name) === '.svg')) {
  keep(name, readFileSync(join(here, 'src', name)));
}
keep('licences.txt', licences(Object.keys(metafile.inputs)));
const sorted = Object.fromEntries(Object.entries(manifest).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(join(out, 'manifest.json'), `${JSON.stringify(sorted, null, 2)}\n`);

// what was built before goes last: whoever reads the folder meanwhile finds one of the two whole
const made = new Set(['manifest.json', ...Object.values(manifest), ...Object.keys(metafile.outputs).map((path) => basename(path))]);
for (const name of readdirSync(out)) if (!made.has(name)) rmSync(join(out, name));

/** The terms of every package that one of these inputs belongs to. */
function licences(inputs) {
  const packages = new Set();
  for (const input of inputs) {
    const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(relative(here, resolve(here, input)));
    if (found) packages.add(found[1]);
  }
  const texts = [...packages].sort().map((name) => {
    const folder = join(here, 'node_modules', name);
    const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder)
      .filter((each) => /^licen[cs]e/i.test(each))
      .sort((a, b) => /apache/i.test(a) - /apache/i.test(b) || a.length - b.length)[0];
    if (!file) throw new Error(`${name} carries no licence text`);
    return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  });
  return ['The scripts of these pages contain the packages below.\n', ...texts].join(`\n${'-'.repeat(72)}\n\n`);
}
