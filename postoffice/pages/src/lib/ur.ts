// Animated QR codes (NUT-16): Uniform Resources of type `bytes`, in as many parts as it takes.
//
// Only the plain parts are shown, in turn; every decoder of the fountain code takes them. With some ten parts a mixed
// one would save a scanner a second or two.

/** First and last letter of the 256 bytewords, in order. */
const PAIRS =
  'aeadaoaxaaahamatayasbkbdbnbtbabsbebybgbwbbbzcmchcscfcycwcecackct' +
  'cxclcpcndkdadsdidedtdrdndwdpdmdldyeheyeoeeecenemetesftfrfnfsfmfh' +
  'fzfpfwfxfyfefgflfdgagegrgsgtglgwgdgygmgughgohfhghdhkhthphhhlhyhe' +
  'hnhsidiaieihiyioisinimjejzjnjtjljojsjpjkjykpkoktkskkknkgkekikblb' +
  'lalylflslrlplnltloldlelulklgmnmymhmemomumwmdmtmsmknlnyndnsntnnne' +
  'nboyoeotoxonolospdptpkpypspmplpepfpaprqdqzrerprlrorhrdrkrfryrnrs' +
  'rtsesasrssskswstspsosgsbsfsntotktitttdtetytltbtstptatnuyuoutueur' +
  'vtvyvovlvevwvavdvswlwdwmwpwewywswtwnwzwfwkykynylyaytzszoztzczezm';

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

/** What to show, one after the other: each a text in upper case, for the denser mode of QR codes. `size`: bytes a part. */
export function parts(text: string, size: number): string[] {
  const message = byteString(new TextEncoder().encode(text));
  const count = Math.ceil(message.length / size);
  if (count === 1) return [`ur:bytes/${bytewords(message)}`.toUpperCase()];
  const length = Math.ceil(message.length / count);
  const checksum = crc32(message);
  return Array.from({ length: count }, (_, index) => {
    const part = new Uint8Array(length);
    part.set(message.subarray(index * length, (index + 1) * length));
    const fields = [[0x85], head(0, index + 1), head(0, count), head(0, message.length), head(0, checksum)];
    const body = bytewords(Uint8Array.from([...fields.flat(), ...byteString(part)]));
    return `ur:bytes/${index + 1}-${count}/${body}`.toUpperCase();
  });
}

/** A CBOR byte string. */
function byteString(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from([...head(2, bytes.length), ...bytes]);
}

/** The head of a CBOR item: major type and a number below 2^32. */
function head(major: number, value: number): number[] {
  const type = major << 5;
  if (value < 24) return [type | value];
  if (value < 0x100) return [type | 24, value];
  if (value < 0x10000) return [type | 25, value >>> 8, value & 255];
  return [type | 26, ...bytes32(value)];
}

function bytewords(bytes: Uint8Array): string {
  return [...bytes, ...bytes32(crc32(bytes))].map((byte) => PAIRS.slice(2 * byte, 2 * byte + 2)).join('');
}

function bytes32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

function crc32(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) value = (CRC[(value ^ byte) & 255] as number) ^ (value >>> 8);
  return ~value >>> 0;
}
