// Is it spam? {"text": "…"} to three figures for the model, and the model's score to {"spam": …, "score": …}.

/** An error of the contract: what is thrown of this kind is the plugin's answer, anything else ends the instance. */
const failure = (kind, message) => ({ kind, message });

const encoder = new TextEncoder();

/** The share of capitals among the letters, exclamation marks, links. */
export function features(text) {
  const count = (pattern) => (text.match(pattern) ?? []).length;
  // The plugin's engine knows no `\p{Lu}`.
  const letters = [...text].filter((letter) => letter.toLowerCase() !== letter.toUpperCase());
  const capitals = letters.filter((letter) => letter !== letter.toLowerCase());
  return [capitals.length / Math.max(letters.length, 1), count(/!/g), count(/https?:\/\//g)];
}

/** The text of a request's body. */
function read(body) {
  let input;
  try {
    input = JSON.parse(new TextDecoder().decode(body));
  } catch (error) {
    throw failure('invalid-input', `the body is not JSON: ${error.message}`);
  }
  if (typeof input?.text !== 'string' || input.text === '') {
    throw failure('invalid-input', '`text` must be a text that is not empty');
  }
  return input.text;
}

export const preprocess = {
  /** To `features`, `[1, 3] f32`. */
  preprocess(request) {
    const data = new DataView(new ArrayBuffer(12));
    features(read(request.body)).forEach((value, at) => data.setFloat32(4 * at, value, true));
    const tensor = { name: 'features', dtype: 'fp32', shape: new BigUint64Array([1n, 3n]), data: new Uint8Array(data.buffer) };
    return { tag: 'tensors', val: [tensor] };
  },
};

export const postprocess = {
  /** From `score`, `[1, 1] f32`. */
  postprocess(_request, outputs) {
    const tensor = outputs.find((tensor) => tensor.name === 'score');
    if (!tensor) {
      throw failure('internal', 'the model gave no score');
    }
    const { buffer, byteOffset, byteLength } = tensor.data;
    const score = new DataView(buffer, byteOffset, byteLength).getFloat32(0, true);
    return {
      status: 200,
      headers: [{ name: 'content-type', value: encoder.encode('application/json') }],
      body: encoder.encode(JSON.stringify({ spam: score > 0.5, score })),
    };
  },
};
