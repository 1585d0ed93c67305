/** The networks, run by onnxruntime's WebAssembly, which is the page's own file as all others are. */

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1; // more need headers that few servers send
ort.env.logLevel = "error";

/** @returns the file's network: a function from floats and their shape to the outputs by name */
export async function load(url) {
  const session = await ort.InferenceSession.create(url);
  const [input] = session.inputNames;
  return async (data, shape) => {
    await new Promise((resolve) => setTimeout(resolve)); // the page can be drawn and scrolled between two runs
    return session.run({ [input]: new ort.Tensor("float32", data, shape) });
  };
}

/** `hub.exported.ExportedProtector`: its side in pixels, its bound in 8-bit levels, and what it does to a face. */
export async function loadProtector(folder) {
  const [response, network] = await Promise.all([fetch(`${folder}/protector.json`), load(`${folder}/protector.onnx`)]);
  const { side, epsilon } = await response.json();
  return {
    side,
    levels: Math.floor(epsilon * 127.5 + 1e-6), // pixels.epsilon_to_levels
    protect: async (crop) => (await network(crop, [1, 3, side, side])).protected.data,
  };
}
