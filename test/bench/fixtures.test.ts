// What the benches run on: the same bytes from the same seed, and traffic as it is on the wire.
import { createHash } from 'node:crypto'
import t from 'tap'
import { chatRequest, streamChunks, tapedStream, words } from '../../bench/fixtures.ts'
import { seeded } from '../../src/inference/seeded.ts'
import { deriveRecord } from '../../src/trajectory/derive.ts'

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

t.test('one seed gives the same numbers and words for ever, another gives others', (t) => {
  const random = seeded(1)
  const numbers = Array.from({ length: 10_000 }, random)
  t.ok(numbers.every((number) => number >= 0 && number < 1))
  const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length
  t.ok(Math.abs(mean - 0.5) < 0.02)
  t.strictSame(Array.from({ length: 3 }, seeded(1)), numbers.slice(0, 3))
  t.not(words(20, seeded(1)), words(20, seeded(2)))
  t.equal(words(20, seeded(1)), words(20, seeded(1)))
  t.end()
})

t.test('a stream is one event a chunk with its usage and mark, whatever the seed', (t) => {
  const chunks = streamChunks(64, 7)
  t.equal(chunks.length, 64 + 3)
  t.ok(chunks.every((chunk) => chunk.toString().startsWith('data: ')))
  t.ok(chunks.every((chunk) => chunk.toString().endsWith('\n\n')))
  t.equal(digest(Buffer.concat(chunks)), digest(Buffer.concat(streamChunks(64, 7))))
  t.not(digest(Buffer.concat(chunks)), digest(Buffer.concat(streamChunks(64, 8))))
  t.end()
})

t.test('a request is JSON of about the length asked for, its model at the end', (t) => {
  for (const bytes of [1 << 10, 32 << 10, 400 << 10]) {
    const request = chatRequest(bytes, 3)
    t.ok(request.length >= bytes && request.length < bytes * 1.3 + 2_000, `${bytes} B`)
    t.equal(Object.keys(JSON.parse(request.toString()) as object).at(-1), 'model')
  }
  t.end()
})

t.test('the exchange made of both derives to a complete record with its tokens', (t) => {
  const { summary, line } = deriveRecord(tapedStream(chatRequest(1_024, 2), streamChunks(64, 1)))
  t.match(summary, { outcome: 'complete', protocol: 'openai.chat', finish_reasons: ['stop'] })
  const record = JSON.parse(line.toString()) as { tokens: { token_ids: number[] }[] }
  t.equal(record.tokens[0]?.token_ids.length, 64)
  t.end()
})
