// The plugin alone, without a host: `npm test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { features, postprocess, preprocess } from './plugin.js';

const bytes = (text) => new TextEncoder().encode(text);

test('a text becomes three figures', () => {
  assert.deepEqual(features('Hi THERE! https://example.com'), [6 / 22, 1, 1]);
  const prepared = preprocess.preprocess({ body: bytes('{"text": "a!"}') });
  assert.equal(prepared.tag, 'tensors');
  assert.equal(prepared.val[0].name, 'features');
  assert.equal(prepared.val[0].data.length, 12);
});

test('what is no text is refused', () => {
  for (const body of ['', '{}', '{"text": ""}', '{"text": 7}', 'null']) {
    assert.throws(() => preprocess.preprocess({ body: bytes(body) }), { kind: 'invalid-input' }, body);
  }
});

test('a score becomes an answer', () => {
  const data = new Uint8Array(new Float32Array([0.75]).buffer);
  const answer = postprocess.postprocess({}, [{ name: 'score', data }]);
  assert.equal(answer.status, 200);
  assert.equal(new TextDecoder().decode(answer.body), '{"spam":true,"score":0.75}');
});
