/**
 * Pictures as {width, height, data}, row by row: the browser's 8-bit RGBA (ImageData), or RGB as floats.
 * Mirrors art_idguard/pixels.py, and what the detector needs of numpy.
 */

/** @returns {number} how many numbers `data` has for each pixel */
export const channels = ({ width, height, data }) => data.length / (width * height);

export const clip = (value, low, high) => Math.min(Math.max(value, low), high);

/** Rounds halves to the even number, as Python, numpy and OpenCV do. */
export function round(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/** `pixels._weights`: a triangle, as wide as the wider of both pixels. */
export function triangle(before, after) {
  const factor = before / after;
  const reach = Math.max(1, factor);
  return Array.from({ length: after }, (_, i) => {
    const middle = (i + 0.5) * factor - 0.5;
    return shares(before, middle - reach, middle + reach, (x) => 1 - Math.abs(x - middle) / reach);
  });
}

/** What each old pixel from `first` to `last` has of a new one, where 0 is none; together 1. */
export function shares(before, first, last, weight) {
  const start = Math.max(0, Math.floor(first));
  const stop = Math.min(before - 1, Math.ceil(last));
  const weights = Array.from({ length: stop - start + 1 }, (_, i) => Math.max(0, weight(start + i)));
  const sum = weights.reduce((a, b) => a + b);
  return { start, weights: weights.map((weight) => Math.fround(weight / sum)) };
}

/** `pixels.resize`, where `kernel` says how much of each old pixel is in a new one. Returns RGB floats. */
export function resize(picture, width, height, kernel = triangle) {
  const step = channels(picture);
  const across = kernel(picture.width, width);
  const down = kernel(picture.height, height);
  const data = new Float32Array(width * height * 3);
  const row = new Float32Array(picture.width * 3);
  let at = 0;
  for (const { start, weights } of down) {
    row.fill(0);
    weights.forEach((weight, i) => {
      let from = (start + i) * picture.width * step;
      for (let to = 0; to < row.length; to += 3, from += step) {
        for (let c = 0; c < 3; c++) row[to + c] += weight * picture.data[from + c];
      }
    });
    for (const { start: left, weights: shared } of across) {
      for (let i = 0; i < shared.length; i++) {
        for (let c = 0; c < 3; c++) data[at + c] += shared[i] * row[(left + i) * 3 + c];
      }
      at += 3;
    }
  }
  return { width, height, data };
}

/** `pixels.sample` for one point, in pixels, whose middles are whole: bilinear, the edge repeated beyond. */
export function sample({ width, height, data }, x, y) {
  [x, y] = [clip(x, 0, width - 1), clip(y, 0, height - 1)];
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const right = left < width - 1 ? 3 : 0;
  const below = top < height - 1 ? 3 * width : 0;
  const first = (top * width + left) * 3;
  const across = (i) => data[i] + (x - left) * (data[i + right] - data[i]);
  return [0, 1, 2].map((c) => {
    const upper = across(first + c);
    return upper + (y - top) * (across(first + below + c) - upper);
  });
}

/** Part of a picture: `picture[top:bottom, left:right]`. */
export function cut(picture, { left, top, right, bottom }) {
  const step = channels(picture);
  const width = right - left;
  const data = new picture.data.constructor(width * (bottom - top) * step);
  for (let y = top; y < bottom; y++) {
    const from = (y * picture.width + left) * step;
    data.set(picture.data.subarray(from, from + width * step), (y - top) * width * step);
  }
  return { width, height: bottom - top, data };
}

/** `np.rot90`: a picture turned by a quarter against the clock, `turn` times. Of RGB or RGBA. */
export function turned(picture, turn) {
  if (turn === 0) return picture;
  const [width, height] = [picture.height, picture.width];
  const step = channels(picture);
  const data = new picture.data.constructor(picture.data.length);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (x * picture.width + picture.width - 1 - y) * step;
      for (let c = 0; c < step; c++) data[at++] = picture.data[from + c];
    }
  }
  return turned({ width, height, data }, turn - 1);
}
