// The answer of `digits` in JavaScript: from `label` and `probabilities` to {"label": …, "p": […], "language": …}.
// Knows shapes and JSON, nothing of digits.

/** An error of the contract: what is thrown of this kind is the plugin's answer, anything else ends the instance. */
const internal = (message) => ({ kind: 'internal', message });

/** The elements of the tensor of this name, each read by `read(view, offset)`; Wasm and DataView alike need no alignment. */
function elements(tensors, name, dtype, size, read) {
  const tensor = tensors.find((tensor) => tensor.name === name);
  if (!tensor) {
    throw internal(`there is no tensor \`${name}\` among ${JSON.stringify(tensors.map((tensor) => tensor.name))}`);
  }
  if (tensor.dtype !== dtype) {
    throw internal(`\`${name}\` is ${tensor.dtype}, not ${dtype}`);
  }
  const { buffer, byteOffset, byteLength } = tensor.data;
  const view = new DataView(buffer, byteOffset, byteLength);
  return Array.from({ length: byteLength / size }, (_, index) => read(view, index * size));
}

export const postprocess = {
  /** From `label`, `[1] i64`, and `probabilities`, `[1, 10] f32`. */
  postprocess(_request, outputs) {
    const [label] = elements(outputs, 'label', 'int64', 8, (view, offset) => view.getBigInt64(offset, true));
    const p = elements(outputs, 'probabilities', 'fp32', 4, (view, offset) => view.getFloat32(offset, true));
    if (label === undefined) {
      throw internal('the model gave no label');
    }
    const encoder = new TextEncoder();
    return {
      status: 200,
      headers: [{ name: 'content-type', value: encoder.encode('application/json') }],
      body: encoder.encode(JSON.stringify({ label: Number(label), p, language: 'javascript' })),
    };
  },
};
