// One string of a body's top level, found without parsing it: the same that JSON.parse finds.
import * as fc from 'fast-check'
import t from 'tap'
import { topLevelString, topLevelTrue, topLevelValue } from '../../src/lane/body-scan.ts'

const scan = (text: string): string | undefined | null => topLevelString(Buffer.from(text), 'model')

t.test('R6: the model is found wherever it stands', async (t) => {
  const cases: [text: string, model: string | undefined | null][] = [
    ['{"model":"m"}', 'm'],
    ['{"model":"m","x":1}', 'm'],
    ['{"messages":[{"content":"a"}],"model":"m"}', 'm'],
    [' \n{\t"x" : [ 1 , { "model" : "no" } ] ,\r\n "model" : "m" } \n', 'm'],
    ['\ufeff{"model":"m"}', 'm'],
    ['{"model":"größe 😀"}', 'größe 😀'],
    ['{"mod\\u0065l":"\\u006d\\n\\"\\\\"}', 'm\n"\\'],
    ['{"x":"\\\\","model":"m"}', 'm'],
    ['{"x":"\\"model\\":\\"no\\"","model":"m"}', 'm'],
    ['{"x":"{[}]","y":{"z":"}"},"model":"m"}', 'm'],
    ['{"model":"a","model":"b"}', 'b'],
    ['{"model":"a","model":null}', undefined],
    ['{"model":1}', undefined],
    ['{"model":{"model":"no"}}', undefined],
    ['{"x":{"model":"no"}}', undefined],
    ['{"xmodel":"no","models":"no"}', undefined],
    ['{}', undefined],
    ['{"model":""}', ''],
  ]
  for (const [text, model] of cases) t.equal(scan(text), model, text)
})

t.test('R28: whether a stream is asked for is told by the top level alone', async (t) => {
  const cases: [text: string, isStream: boolean][] = [
    ['{"stream":true}', true],
    ['{"a":{"stream":false}, "stream" : true , "b":1}', true],
    ['{"stream":false,"stream":true}', true],
    ['{"stream":true,"stream":false}', false],
    ['{"stream":"true"}', false],
    ['{"stream":1}', false],
    ['{"messages":[{"stream":true}]}', false],
    ['{"stream":true', false],
    ['', false],
  ]
  for (const [text, is] of cases) t.equal(topLevelTrue(Buffer.from(text), 'stream'), is, text)
  const body = Buffer.from('{"stream_options" : {"include_usage":true} ,"n":1}')
  t.equal(topLevelValue(body, 'stream_options')?.toString(), '{"include_usage":true}')
  t.equal(topLevelValue(body, 'n')?.toString(), '1')
  t.equal(topLevelValue(body, 'include_usage'), undefined)
})

t.test('what is no JSON object, as far as the scan sees, is null', async (t) => {
  const whole = '{"a":[1,{"b":"c"}],"model":"m","d":-1.5e3}'
  for (let length = 0; length < whole.length; length++) {
    t.equal(scan(whole.slice(0, length)), null, `cut at ${length}`)
  }
  for (const text of [
    ['[]', '"model"', 'null', '1', '{model:"m"}', '{"model"}', '{"model" "m"}', '{"a":}'],
    ['{"model":"m"', '{"model":"m",}', '{"model":"m" "x":1}', '{,}', '{"a":1 2}'],
  ].flat()) {
    t.equal(scan(text), null, text)
  }
})

// Compared with what was put in, not with JSON.parse: V8 14.6 reads the key of {"a\\"":1} as `a\` once
// it has seen an object of that shape with the key `a\`.
t.test('any object, spaced in any way, gives the string it has at a key', async (t) => {
  const key = fc.oneof(fc.constantFrom('model', 'a', '', '__proto__', '"', '\\', 'é'), fc.string())
  const object = fc.dictionary(key, fc.oneof(fc.string(), fc.jsonValue()))
  const indent = fc.constantFrom(undefined, 1, '\t', '\n\r ')
  fc.assert(
    fc.property(object, key, indent, (value, wanted, space) => {
      const text = JSON.stringify(value, null, space)
      const own = Object.hasOwn(value, wanted) ? value[wanted] : undefined
      const expected = typeof own === 'string' ? own : undefined
      return topLevelString(Buffer.from(text), wanted) === expected
    }),
    { numRuns: 5_000 },
  )
  t.pass('5000 runs')
})

t.test('any bytes give an answer and no exception', async (t) => {
  const pieces = fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', 'model', ' ', '1', '\xff')
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 30 }), (parts) => {
      const found = topLevelString(Buffer.from(`{"a"${parts.join('')}`, 'latin1'), 'model')
      return found === null || found === undefined || typeof found === 'string'
    }),
    { numRuns: 5_000 },
  )
  t.pass('5000 runs')
})

t.test('8 MB in front of the model are jumped over in a moment', async (t) => {
  const text = 'x\\"y{[é'.repeat(1 << 20)
  const quoted = Buffer.from(`{"messages":[{"content":"${text}"}],"model":"m"}`)
  t.ok(quoted.length > 8 << 20)
  const startMs = performance.now()
  t.equal(topLevelString(quoted, 'model'), 'm')
  const backslashes = Buffer.from(`{"x":"${'\\\\'.repeat(4 << 20)}","model":"m"}`)
  t.equal(topLevelString(backslashes, 'model'), 'm')
  const nested = Buffer.from(`{"x":${'['.repeat(2 << 20)}${']'.repeat(2 << 20)},"model":"m"}`)
  t.equal(topLevelString(nested, 'model'), 'm')
  const tookMs = performance.now() - startMs
  t.ok(tookMs < 10_000, `${Math.round(tookMs)} ms for three bodies of 8 MB`)
})
