/** The page: a photo in, its protected version out, every step and error in words. */

import { detect, doubtful } from "./detection.js";
import { protectPhoto } from "./protection.js";

const MAX_PIXELS = 50_000_000;
const MAX_SIDE = 16_384; // a browser's canvas has no more

/** What a person can do something about; its message is a sentence. */
class Problem extends Error {}

const at = (id) => document.getElementById(id);
const [choose, file, example] = ["choose", "file", "example"].map(at);
const [status, error, result] = ["status", "error", "result"].map(at);
const [compare, before, after, slider, download] = ["compare", "before", "after", "slider", "download"].map(at);

/** Says how far the work is. */
function tell(words) {
  status.textContent = words;
}

/** Says what went wrong. */
function complain(words) {
  tell("");
  error.textContent = words;
  error.hidden = false;
}

/** The pixels of a photo, upright, in sRGB. */
async function read(photo) {
  const bitmap = await createImageBitmap(photo).catch(() => {
    throw new Problem(`${photo.name} is no picture that this browser can read. Choose a JPEG, PNG or WebP.`);
  });
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS || Math.max(width, height) > MAX_SIDE) {
    throw new Problem(
      `${photo.name} has ${width} x ${height} pixels, which is too large for a browser. Shrink it below ` +
        `${MAX_PIXELS / 1e6} million pixels, and ${MAX_SIDE} on each side; art-idguard protect takes more.`,
    );
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** A picture as PNG. */
function write({ width, height, data }) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(new ImageData(data, width, height), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Shows a photo and its protected version, and offers the latter. */
function show(photo, made) {
  for (const image of [before, after]) URL.revokeObjectURL(image.src);
  before.src = URL.createObjectURL(photo);
  after.src = download.href = URL.createObjectURL(made);
  download.download = `${photo.name.replace(/\.[^.]*$/, "")}.protected.png`;
  result.hidden = false;
}

function found(faces, levels) {
  const what =
    faces.length === 1
      ? "One face was found and protected."
      : `${faces.length} faces were found and all of them protected.`;
  const unsure = faces.filter(doubtful).length;
  const warning = unsure ? ` ${unsure} may be none, or stand otherwise: look at the pictures.` : "";
  return `${what}${warning} No colour is changed by more than ${levels} of 255 levels.`;
}

async function protect(photo, { detector, protector }) {
  tell("Reading the photo…");
  const picture = await read(photo);
  const faces = await detect(picture, detector, (turn) => tell(`Looking for faces, turn ${turn + 1} of 4…`));
  if (!faces.length) {
    throw new Problem(`No face was found in ${photo.name}. Choose a photo with a face at least 60 pixels wide.`);
  }
  const onFace = (number) => tell(`Protecting face ${number + 1} of ${faces.length}…`);
  const made = await protectPhoto(picture, faces, protector, onFace);
  tell("Writing the picture…");
  show(photo, await write(made));
  tell(found(faces, protector.levels));
}

/** Does a piece of work while nothing else can be chosen; what goes wrong is said. */
async function busy(work) {
  choose.disabled = true;
  result.hidden = error.hidden = true;
  try {
    await work();
  } catch (reason) {
    complain(reason instanceof Problem ? reason.message : `This did not work: ${reason.message ?? reason}`);
  } finally {
    choose.disabled = false;
  }
}

async function fetchExample() {
  const response = await fetch("models/example.png");
  return new File([await response.blob()], "example.png");
}

async function loadModels() {
  try {
    const { load, loadProtector } = await import("./models.js"); // fails with a reason where node_modules is absent
    const [detector, protector] = await Promise.all([load("models/detector.onnx"), loadProtector("models")]);
    return { detector, protector };
  } catch (reason) {
    complain(`The page is not complete: run npm ci and prepare.py in its folder. (${reason.message ?? reason})`);
    throw reason;
  }
}

const loading = loadModels();
const start = (photo) => busy(async () => protect(await photo, await loading));

file.addEventListener("change", async () => {
  if (file.files.length) await start(file.files[0]);
  file.value = ""; // so that the same file can be chosen again
});
example.addEventListener("click", () => start(fetchExample()));
slider.addEventListener("input", () => compare.style.setProperty("--at", `${slider.value}%`));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [photo] = event.dataTransfer.files;
  if (photo && !choose.disabled) start(photo);
});

await loading;
choose.disabled = false;
tell("Ready.");
