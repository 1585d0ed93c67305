/**
 * Finds faces as art_idguard/faces/detection.py does, whose comments say why; names are the same.
 * A face is {box: [left, top, width, height], points: five [x, y], score}, in pixels of its picture.
 */

import { enlarge, shrink } from "./opencv.js";
import { channels, clip, cut, round, turned } from "./pixels.js";

const THRESHOLD = 0.7;
const SIDES = [384, 1024];
const LEAST = 0.4;
const STEP = 5;
const TILE = 2048;
const OVERLAP = 192;
const THINNEST = 8;
const SMALL = 50;
const SURE = 0.93;
const CLEAR = 0.85;
const SAME_FACE = 0.3; // of their union, that two boxes of YuNet share at least

/** `Face.doubtful` */
export const doubtful = (face) => face.score < CLEAR;

/**
 * `FaceDetector.detect`
 * @param picture RGBA
 * @param network YuNet, see `models.load`
 * @param {function(number)} onTurn is told the number of each of four turns
 */
export async function detect(picture, network, onTurn) {
  const longer = Math.max(picture.width, picture.height);
  const scales = searchedSides(longer).map((side) => side / longer);
  const finest = scales.at(-1);
  if (Math.min(picture.width, picture.height) * finest < THINNEST) return [];
  const sizes = scales.map((scale) => resized(picture, scale));
  const found = [];
  for (let turn = 0; turn < 4; turn++) {
    onTurn(turn);
    const seen = await search(picture, sizes, turn, network);
    const others = seen.filter((other) => !found.some((face) => same(other, face)));
    for (const other of others) {
      const { face, turn: upright } = await ascertained(picture, other, turn, finest, network);
      if (upright === 0 || face.score >= CLEAR) found.push(face);
    }
  }
  const size = ({ box: [, , width, height] }) => width * height;
  return distinct(found.sort((a, b) => b.score - a.score)).sort((a, b) => size(b) - size(a));
}

/** `_search` */
async function search(picture, sizes, turn, network) {
  const found = [];
  for (const small of sizes) {
    const back = [picture.width / small.width, picture.height / small.height];
    for (const face of await inTiles(turned(small, turn), network)) {
      const distance = Math.abs(Math.log(face.box[2] / 100));
      found.push({ distance, face: scaled(turnedBack(face, turn, small), back) });
    }
  }
  return distinct(found.sort((a, b) => a.distance - b.distance).map(({ face }) => face));
}

/** `_ascertained` */
async function ascertained(picture, face, turn, scale, network) {
  if (face.score >= SURE) return { face, turn };
  const [left, top, width, height] = face.box;
  const side = 2 * Math.max(width, height);
  const [x, y] = [left + width / 2, top + height / 2].map((middle) => Math.max(0, Math.trunc(middle - side / 2)));
  const [right, bottom] = [x + Math.ceil(side), y + Math.ceil(side)];
  const around = cut(picture, {
    left: x,
    top: y,
    right: Math.min(right, picture.width),
    bottom: Math.min(bottom, picture.height),
  });
  const sizes = [resized(around, 200 / side)];
  let best = null;
  for (let t = 0; t < 4; t++) {
    for (const found of await search(around, sizes, t, network)) {
      const other = moved(found, x, y);
      const counts = same(other, face) && (t === 0 || other.score >= CLEAR);
      if (counts && !(best?.face.score >= other.score)) best = { face: other, turn: t };
    }
  }
  return best && (best.turn !== turn || width * scale < SMALL) ? best : { face, turn };
}

/** `_in_tiles` */
async function inTiles(picture, network) {
  const found = [];
  for (const [top, bottom] of tiles(picture.height)) {
    for (const [left, right] of tiles(picture.width)) {
      const inner = [left > 0, top > 0, right < picture.width, bottom < picture.height];
      for (const seen of await run(cut(picture, { left, top, right, bottom }), network)) {
        const face = moved(seen, left, top);
        const [x, y, width, height] = face.box;
        const over = [x < left, y < top, x + width > right, y + height > bottom];
        if (!inner.some((is, i) => is && over[i])) found.push(face);
      }
    }
  }
  return found;
}

/** `_run`, which is OpenCV's `FaceDetectorYN::detect`: zeros up to a multiple of 32 pixels, and YuNet's cells read. */
async function run(picture, network) {
  const [width, height] = [picture.width, picture.height].map((length) => 32 * Math.ceil(length / 32));
  const input = new Float32Array(3 * height * width);
  const step = channels(picture);
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < picture.width; x++) {
      const from = (y * picture.width + x) * step;
      for (let c = 0; c < 3; c++) input[(c * height + y) * width + x] = picture.data[from + 2 - c]; // BGR
    }
  }
  const outputs = await network(input, [1, 3, height, width]);
  const faces = [8, 16, 32].flatMap((stride) => cells(outputs, stride, width / stride));
  return distinct(
    faces.sort((a, b) => b.score - a.score),
    (a, b) => shared(a.box.map(Math.trunc), b.box.map(Math.trunc)) > SAME_FACE,
  );
}

/** The faces of YuNet's cells, which are `stride` pixels wide. */
function cells(outputs, stride, columns) {
  const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((name) => outputs[`${name}_${stride}`].data);
  const faces = [];
  for (let i = 0; i < cls.length; i++) {
    const score = Math.sqrt(clip(cls[i], 0, 1) * clip(obj[i], 0, 1));
    if (score < THRESHOLD) continue;
    const [column, row] = [i % columns, Math.floor(i / columns)];
    const [x, y, w, h] = bbox.subarray(4 * i, 4 * i + 4);
    const [width, height] = [Math.exp(w) * stride, Math.exp(h) * stride];
    const points = [0, 2, 4, 6, 8].map((n) => kps.subarray(10 * i + n, 10 * i + n + 2));
    faces.push({
      box: [(column + x) * stride - width / 2, (row + y) * stride - height / 2, width, height],
      points: points.map(([px, py]) => [(column + px) * stride, (row + py) * stride]),
      score,
    });
  }
  return faces;
}

/** Which share of two boxes' union is in both. */
function shared([left, top, width, height], [left2, top2, width2, height2]) {
  const across = Math.min(left + width, left2 + width2) - Math.max(left, left2);
  const down = Math.min(top + height, top2 + height2) - Math.max(top, top2);
  const both = Math.max(0, across) * Math.max(0, down);
  return both / (width * height + width2 * height2 - both);
}

/** `_sides` */
function searchedSides(longer) {
  const [least, usual] = SIDES;
  const finest = longer > usual ? Math.max(usual, LEAST * longer) : least;
  const steps = Math.ceil(Math.log(finest / least) / Math.log(STEP));
  return Array.from({ length: steps + 1 }, (_, i) => least * (finest / least) ** (i / Math.max(1, steps)));
}

/** `_tiles`, as [start, stop] */
function tiles(length) {
  const count = Math.max(1, Math.ceil((length - OVERLAP) / (TILE - OVERLAP)));
  const side = Math.ceil((length + (count - 1) * OVERLAP) / count);
  return Array.from({ length: count }, (_, i) => {
    const start = round((i * (length - side)) / Math.max(1, count - 1));
    return [start, Math.min(start + side, length)];
  });
}

/** `_resized` */
function resized(picture, scale) {
  const [width, height] = [picture.width, picture.height].map((length) => Math.max(1, round(length * scale)));
  return scale < 1 ? shrink(picture, width, height) : enlarge(picture, width, height);
}

/** `_moved` */
function moved({ box: [left, top, ...size], points, score }, right, down) {
  return { box: [left + right, top + down, ...size], points: points.map(([x, y]) => [x + right, y + down]), score };
}

/** `_turned_back` */
function turnedBack({ box: [left, top, width, height], points, score }, turn, picture) {
  for (let quarter = turn - 1; quarter >= 0; quarter--) {
    const side = quarter % 2 ? picture.height : picture.width;
    [left, top, width, height] = [side - top - height, left, height, width];
    points = points.map(([x, y]) => [side - 1 - y, x]);
  }
  return { box: [left, top, width, height], points, score };
}

/** `_scaled` */
function scaled({ box: [left, top, width, height], points, score }, [across, down]) {
  return {
    box: [left * across, top * down, width * across, height * down],
    points: points.map(([x, y]) => [(x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5]),
    score,
  };
}

/** `_distinct` */
function distinct(faces, equal = same) {
  const kept = [];
  for (const face of faces) if (!kept.some((other) => equal(face, other))) kept.push(face);
  return kept;
}

/** `_same` */
const same = (a, b) => covers(a, b) && covers(b, a);

/** `_covers` */
function covers({ box: [left, top, width, height] }, { points }) {
  const [x, y] = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  return left < x && x < left + width && top < y && y < top + height;
}
