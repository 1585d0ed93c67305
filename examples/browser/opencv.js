/** OpenCV's `resize` of 8-bit pictures, to its last bit but few: the points of a face move with it. RGBA or RGB in, RGB out. */

import { channels, clip, resize, round, shares } from "./pixels.js";

/** INTER_AREA: an old pixel counts by how much of it the new one covers. Halves it rounds up, but only at half the size. */
export function shrink(picture, width, height) {
  const { data } = resize(picture, width, height, covered);
  const halved = picture.width === 2 * width && picture.height === 2 * height;
  return { width, height, data: halved ? data.map((value) => Math.floor(value + 0.5)) : data.map(round) };
}

function covered(before, after) {
  const factor = before / after;
  return Array.from({ length: after }, (_, i) => {
    const [start, stop] = [i * factor, (i + 1) * factor];
    return shares(before, start, stop, (x) => Math.min(x + 1, stop) - Math.max(x, start));
  });
}

/** INTER_LINEAR, in whole numbers: shares are of 2048, and bits are dropped on the way. */
export function enlarge(picture, width, height) {
  const step = channels(picture);
  const [across, down] = [neighbours(picture.width, width), neighbours(picture.height, height)];
  const data = new Uint8Array(width * height * 3);
  let to = 0;
  for (const { low: top, high: below, share: rest } of down) {
    for (const { low: left, high: right, share } of across) {
      for (let c = 0; c < 3; c++) {
        const [upper, lower] = [top, below].map((row) => {
          const at = (column) => picture.data[(row * picture.width + column) * step + c];
          return ((2048 - share) * at(left) + share * at(right)) >> 4;
        });
        data[to++] = ((((2048 - rest) * upper) >> 16) + ((rest * lower) >> 16) + 2) >> 2;
      }
    }
  }
  return { width, height, data };
}

/** The two old pixels of which each new one is made, and the share of the second. */
function neighbours(before, after) {
  return Array.from({ length: after }, (_, i) => {
    const middle = Math.fround(clip(((i + 0.5) * before) / after - 0.5, 0, before - 1));
    const low = Math.floor(middle);
    return { low, high: Math.min(low + 1, before - 1), share: round(2048 * (middle - low)) };
  });
}
