// QR codes as drawings: one path, dark on white in either scheme, with the quiet zone that scanners need.

import encodeQR from 'qr';

const SVG = 'http://www.w3.org/2000/svg';
const QUIET = 4;

/** A drawing of this text; `draw` replaces what it shows. */
export class QrCode {
  readonly element = document.createElementNS(SVG, 'svg');
  private readonly path = document.createElementNS(SVG, 'path');

  constructor(text: string) {
    this.element.setAttribute('shape-rendering', 'crispEdges');
    this.element.setAttribute('aria-hidden', 'true');
    this.element.append(this.path);
    this.draw(text);
  }

  draw(text: string): void {
    const rows = encodeQR(text, 'raw', { ecc: 'low', border: QUIET });
    let path = '';
    rows.forEach((row, y) => {
      for (let x = 0; x < row.length; x++) {
        if (!row[x]) continue;
        const start = x;
        while (row[x + 1]) x++;
        path += `M${start} ${y}h${x - start + 1}v1h-${x - start + 1}z`;
      }
    });
    this.element.setAttribute('viewBox', `0 0 ${rows.length} ${rows.length}`);
    this.path.setAttribute('d', path);
  }
}
