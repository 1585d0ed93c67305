/** Protects every face of a photo as art_idguard/photos/protect.py and faces/framing.py do. */

import { clip, cut, resize, round, sample } from "./pixels.js";

const TAPER = 0.1;
const TEMPLATE_SIZE = 112;
// prettier-ignore
const CELEBA_POINTS = [[43.1, 57.4], [67.5, 57.3], [55.0, 72.0], [45.2, 84.0], [65.8, 83.7]];

/**
 * `protect_photo`
 * @param photo RGBA
 * @param faces see `detection.detect`
 * @param protector see `models.loadProtector`
 * @param {function(number)} onFace is told the number of each face
 * @returns the protected photo
 */
export async function protectPhoto(photo, faces, protector, onFace) {
  const made = { width: photo.width, height: photo.height, data: new Uint8ClampedArray(photo.data) };
  for (const [number, { points }] of faces.entries()) {
    onFace(number);
    const frame = celebaFrame(points);
    const crop = faceCrop(photo, frame, protector.side);
    const delta = difference(await protector.protect(crop), crop, protector.side);
    warpBack(delta, frame, photo, made, protector.levels);
  }
  return made;
}

/**
 * `celeba_frame`, in pixels, from the outer edge of the first: (u, v) of the face's square, whose edges are -1 and 1,
 * lies at (x + a u - b v, y + b u + a v).
 */
function celebaFrame(points) {
  const [t, p] = [centred(CELEBA_POINTS), centred(points)];
  let [length, re, im] = [0, 0, 0];
  p.points.forEach(([x, y], i) => {
    const [tx, ty] = t.points[i];
    length += x * x + y * y;
    re += x * tx + y * ty;
    im += x * ty - y * tx;
  });
  const scale = length / (re * re + im * im);
  const turn = { re: scale * re, im: -scale * im };
  const [dx, dy] = t.mean.map((value) => (TEMPLATE_SIZE - 1) / 2 - value);
  return {
    a: (turn.re * TEMPLATE_SIZE) / 2,
    b: (turn.im * TEMPLATE_SIZE) / 2,
    x: p.mean[0] + turn.re * dx - turn.im * dy + 0.5,
    y: p.mean[1] + turn.im * dx + turn.re * dy + 0.5,
  };
}

function centred(points) {
  const mean = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  return { mean, points: points.map(([x, y]) => [x - mean[0], y - mean[1]]) };
}

/** `_rectangle`: the part of a photo that a frame covers, larger by a share of its own side on each side. */
function rectangle({ a, b, x, y }, { width, height }, margin = 0) {
  const reach = Math.abs(a) + Math.abs(b);
  const extra = reach * (1 + 2 * margin);
  return {
    left: Math.min(Math.max(Math.floor(x - extra), 0), width - 1),
    top: Math.min(Math.max(Math.floor(y - extra), 0), height - 1),
    right: Math.min(Math.max(Math.ceil(x + extra), 1), width),
    bottom: Math.min(Math.max(Math.ceil(y + extra), 1), height),
  };
}

/** `face_crop`: three planes of `side` x `side` pixels on [-1, 1]. */
function faceCrop(photo, frame, side) {
  const where = rectangle(frame, photo, 2 / side);
  const part = cut(photo, where);
  const shrink = Math.max(1, (2 * Math.hypot(frame.a, frame.b)) / side); // framing.shrunken_size
  const [width, height] = [part.width, part.height].map((length) => Math.max(1, round(length / shrink)));
  const framed = framedInBlack(resize(part, width, height));
  const [across, down] = [width / part.width, height / part.height];
  const crop = new Float32Array(3 * side * side);
  for (let i = 0; i < side * side; i++) {
    const [u, v] = [i % side, Math.floor(i / side)].map((pixel) => (2 * pixel + 1) / side - 1);
    const x = frame.x + frame.a * u - frame.b * v - where.left;
    const y = frame.y + frame.b * u + frame.a * v - where.top;
    const colour = sample(framed, x * across + 0.5, y * down + 0.5); // half a pixel less, and the frame's one more
    for (let c = 0; c < 3; c++) crop[c * side * side + i] = colour[c] / 127.5 - 1;
  }
  return crop;
}

/** A pixel of black around a picture. */
function framedInBlack({ width, height, data }) {
  const framed = { width: width + 2, height: height + 2, data: new Float32Array(3 * (width + 2) * (height + 2)) };
  for (let y = 0; y < height; y++) {
    framed.data.set(data.subarray(3 * y * width, 3 * (y + 1) * width), 3 * ((y + 1) * framed.width + 1));
  }
  return framed;
}

/** What a protector adds to a face, as a picture of 8-bit levels. */
function difference(made, crop, side) {
  const data = new Float32Array(crop.length);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) data[3 * i + c] = 127.5 * (made[c * side * side + i] - crop[c * side * side + i]);
  }
  return { width: side, height: side, data };
}

/** `_warp_back` and `_add`: adds to `made`, which stays within `levels` of `photo`. */
function warpBack(delta, frame, photo, made, levels) {
  const { a, b, x, y } = frame;
  const { left, top, right, bottom } = rectangle(frame, photo);
  const area = a * a + b * b;
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const [dx, dy] = [column + 0.5 - x, row + 0.5 - y];
      const [u, v] = [(a * dx + b * dy) / area, (a * dy - b * dx) / area];
      const edge = clip((1 - Math.max(Math.abs(u), Math.abs(v))) / TAPER, 0, 1);
      if (edge === 0) continue;
      const [across, down] = [u, v].map((place) => ((place + 1) * delta.width - 1) / 2);
      const added = sample(delta, across, down);
      const first = 4 * (row * photo.width + column);
      for (let c = 0; c < 3; c++) {
        const clean = photo.data[first + c];
        const total = made.data[first + c] - clean + edge * added[c];
        made.data[first + c] = clean + clip(round(total), -levels, levels); // the array keeps to 0..255
      }
    }
  }
}
