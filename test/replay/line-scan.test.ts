// Lines of ours are read without being parsed, and come to the same as if they were.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import t from 'tap'
import { CanonicalWriter } from '../../src/replay/canonical-text.ts'
import { canonicalize } from '../../src/replay/canonical.ts'
import type { Json } from '../../src/replay/canonical.ts'
import { makeJsonBytes, skipValue } from '../../src/replay/json-bytes.ts'
import type { JsonBytes } from '../../src/replay/json-bytes.ts'
import { LineScanner } from '../../src/replay/line-scan.ts'
import { packRecord } from '../../src/replay/pack-record.ts'
import { Packer } from '../../src/replay/packed.ts'
import { ignoreRules } from '../../src/replay/profiles.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { recordOf } from '../support/record-lines.ts'

const SEED = Date.now() & 0x7fffffff
t.comment(`seed ${SEED}`)

function bytesOf(text: string): JsonBytes {
  const json = makeJsonBytes(Buffer.byteLength(text))
  json.bytes.write(text)
  return json
}

/** JSON text of any value, spaced and escaped in one of several ways. */
const jsonText = fc
  .tuple(fc.jsonValue({ maxDepth: 5 }), fc.nat(3), fc.boolean())
  .map(([value, indent, ascii]) => {
    const text = JSON.stringify(value, null, '\t'.repeat(indent)).replaceAll('\n', ' ')
    const escape = (char: string): string =>
      `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
    return ascii ? text.replace(/[\u0080-\uffff/]/g, escape) : text
  })

t.test('the canonical form out of the text is the one out of the value', async (t) => {
  const parts = fc.constantFrom('a', 'b', '', '0', '1', '*', 'stream')
  const pointers = fc.array(fc.array(parts, { minLength: 1, maxLength: 3 }), { maxLength: 3 })
  const writer = new CanonicalWriter()
  let written = 0
  const property = fc.property(jsonText, pointers, (text, pointers) => {
    const rules = { pointers, texts: [] }
    const json = bytesOf(text)
    const end = skipValue(json, 0)
    assert.equal(end, Buffer.byteLength(text))
    writer.begin(Buffer.from('start '))
    const endOf = writer.write(json, 0, rules)
    if (endOf < 0) return
    assert.equal(endOf, end)
    written++
    const canonical = canonicalize(JSON.parse(text) as Json, rules)
    assert.equal(writer.bytes.toString('utf8', 0, writer.length), `start ${canonical}`)
  })
  fc.assert(property, { seed: SEED, numRuns: 3_000 })
  t.ok(written > 1_500, `${written} were written without the value`)
})

t.test('numbers of all sizes, and members in any order and twice', async (t) => {
  const writer = new CanonicalWriter()
  const canonical = (text: string): string | undefined => {
    const json = bytesOf(text)
    writer.begin(Buffer.alloc(0))
    const end = writer.write(json, 0, { pointers: [], texts: [] })
    return end === Buffer.byteLength(text)
      ? writer.bytes.toString('utf8', 0, writer.length)
      : undefined
  }
  const numbers = `[${Array.from({ length: 30_000 }, (_, i) => `${i % 9}e${i % 21}`).join(',')}]`
  for (const text of [
    numbers,
    '[-0,0.0,1E400,12345678901234567890,1.50]',
    '{"b":1,"a":{"d":[],"c":{}}}',
  ]) {
    t.equal(canonical(text), canonicalize(JSON.parse(text) as Json))
  }
  for (const text of ['{"b":1,"a":2,"b":3}', '{"a":1,"a":2}', '{"é":1}', '{"\\u0061":1}']) {
    t.equal(canonical(text), undefined, text)
  }
})

t.test('what is taken for JSON is JSON, however a text is broken', async (t) => {
  const changed = fc.tuple(jsonText, fc.nat(), fc.constantFrom(...'"\\{}[],:0-.eE+tfn u\u0000\t'))
  let broken = 0
  const property = fc.property(changed, fc.nat(2), ([text, at, char], how) => {
    const place = at % text.length
    const rest = text.slice(place + (how === 0 ? 0 : 1))
    const other = text.slice(0, place) + (how === 2 ? '' : char) + rest
    const json = bytesOf(other)
    const end = skipValue(json, 0)
    if (end < 0) broken++
    else assert.doesNotThrow(() => JSON.parse(json.bytes.toString('utf8', 0, end)), other)
  })
  fc.assert(property, { seed: SEED, numRuns: 5_000 })
  t.ok(broken > 500, `${broken} were seen to be broken`)
})

const oddFields = fc.record(
  {
    model: fc.option(fc.string()),
    stream: fc.boolean(),
    request: fc.jsonValue({ maxDepth: 3 }),
    response: fc.jsonValue({ maxDepth: 2 }),
    seq: fc.oneof({ arbitrary: fc.nat(), weight: 20 }, fc.constantFrom(-1, 1.5)),
    session: fc.oneof(fc.string(), fc.constant('søsken "a"\\')),
    turn: fc.option(fc.nat(50)),
    protocol: fc.constantFrom('openai.chat', 'raw', 'gemini.generate'),
    method: fc.constantFrom('POST', 'GET', 'HEAD'),
    path: fc.constantFrom('/v1/chat/completions', '/v1/x?key=secret&a=1', '/v1/messages'),
    http_status: fc.option(fc.constantFrom(200, 204, 404, 500)),
    outcome: fc.constantFrom('complete', 'truncated', 'client_gone', 'incomplete'),
    partial: fc.boolean(),
    tape: fc.oneof(
      { arbitrary: fc.constant({ segment: '1-000002.tape', end: 2 ** 40 }), weight: 20 },
      fc.constantFrom({ end: 1, segment: 'a' }, { segment: 'a', end: 1, more: 1 }, null),
    ),
    sha256: fc.oneof(
      { arbitrary: fc.constant({ request: 'aB'.repeat(32), response: null }), weight: 20 },
      fc.constant({ request: 'AB' }),
    ),
    tags: fc.dictionary(fc.constantFrom('a', 'schema', 'sha256', 'verify'), fc.string()),
    verify: fc.jsonValue({ maxDepth: 2 }),
  },
  { requiredKeys: [] },
)

/** A line of ours with some of its values changed. */
const oddLine = fc
  .tuple(oddFields, fc.boolean())
  .map(([odd, isCaptured]) => JSON.stringify({ ...recordOf(7, { isCaptured }), ...odd }))

t.test('a line comes to the same, scanned or parsed', async (t) => {
  const rules = [ignoreRules([], []), ignoreRules(['/temperature', '/messages/*/role'], ['codex'])]
  let scanned = 0
  const property = fc.property(oddLine, fc.nat(1), (line, n) => {
    const ignore = rules[n]!
    const one = new Packer()
    const end = new LineScanner(ignore).scan(one, bytesOf(line), 0, 99)
    if (end < 0) return assert.equal(one.count, 0)
    scanned++
    assert.equal(end, Buffer.byteLength(line))
    const other = new Packer()
    const record = JSON.parse(line) as StoredRecord
    const place = { offset: 99, length: end }
    assert.equal(packRecord(other, record, place, ignore), undefined)
    assert.deepEqual(one.take(), other.take())
  })
  fc.assert(property, { seed: SEED, numRuns: 3_000 })
  t.ok(scanned > 1_000, `${scanned} were scanned`)
})

const scanOne = (text: string): number =>
  new LineScanner(ignoreRules([], [])).scan(new Packer(), bytesOf(text), 0, 0)

t.test(
  'no line is taken that was cut, or cut and joined with the next, at any place',
  async (t) => {
    const content = 'says "schema" and {"model":1}'
    const response = { content, id: 'a', schema: 'rolltape.record/1' }
    const own = recordOf(7, { content, isCaptured: true })
    const line = JSON.stringify({ ...own, response, tags: { a: 'b' } })
    const next = JSON.stringify({ ...recordOf(8, { content }), response })
    t.equal(scanOne(line), line.length)
    const taken: [number, string][] = []
    for (let at = 1; at < line.length; at++) {
      const [start, rest] = [line.slice(0, at), line.slice(at)]
      for (const torn of [start, `${start}\n${rest}`, start + next, line + start, rest]) {
        if (scanOne(torn) >= 0) taken.push([at, torn])
      }
    }
    t.strictSame(taken, [])
  },
)

t.test(
  'records within a response, and keys that others put in, are left to the parser',
  async (t) => {
    const whole = recordOf(7)
    for (const odd of [
      { response: recordOf(8) },
      { response: [recordOf(8), {}] },
      { usage: { raw: recordOf(8) } },
      { 'a key of later': 1 },
      { schema: 'rolltape.record/2' },
      { seq: '7' },
      { turn: 1.5 },
      { partial: null },
    ]) {
      t.equal(scanOne(JSON.stringify({ ...whole, ...odd })), -1, Object.keys(odd).join())
    }
    const { seq, ...rest } = whole
    t.equal(scanOne(JSON.stringify({ seq, ...rest })), -1, 'another order')
    t.equal(scanOne(JSON.stringify(whole, null, ' ').replaceAll('\n', ' ')), -1, 'spaces')
  },
)
