// The sum that an invoice asks for (BOLT 11, Human-Readable Part). Nothing else of it is read here.

const MSAT: Record<string, number> = { '': 100_000_000_000, m: 100_000_000, u: 100_000, n: 100, p: 0.1 };

/** sat, with a fraction where it asks for one; undefined where it names no sum or is no invoice. */
export function satOf(invoice: string): number | undefined {
  const readable = invoice.toLowerCase().slice(0, Math.max(0, invoice.lastIndexOf('1')));
  const found = /^ln[a-z]+?([1-9][0-9]{0,11})([munp]?)$/.exec(readable);
  const unit = MSAT[found?.[2] ?? ''];
  return found && unit !== undefined ? (Number(found[1]) * unit) / 1_000 : undefined;
}
