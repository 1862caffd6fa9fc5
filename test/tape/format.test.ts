// What is put into a frame comes out of it: any bytes, any text, any header a client may send.
import * as fc from 'fast-check'
import t from 'tap'
import type { Mode } from '../../src/mode.ts'
import type { CloseCause } from '../../src/tape/exchange.ts'
import {
  FLAG_INTERIM,
  FLAG_OWN,
  FLAG_REQUIRES_TOKENS,
  FLAG_SAME_BODY,
  FRAME_HEADER_BYTES,
  FRAME_PAYLOAD_BYTES_MAX,
  formatBegin,
  formatEnd,
  formatHead,
  formatJson,
  formatSent,
  formatSegmentHeader,
  formatTrailers,
  parseBegin,
  parseChunks,
  parseEnd,
  parseHead,
  parseJson,
  parseSent,
  parseSegmentHeader,
  parseSegmentName,
  parseTrailers,
  readFrameHeader,
  segmentName,
  writeFrameHeader,
} from '../../src/tape/format.ts'

const MODES: Mode[] = ['passthrough', 'record', 'replay', 'hybrid', 'verify']
const CAUSES: CloseCause[] = [
  ...(['upstream_end', 'upstream_reset', 'client_gone'] as const),
  ...(['timeout_connect', 'timeout_ttfb', 'timeout_stall', 'timeout_total'] as const),
  ...(['cancelled', 'error'] as const),
]

const PLAIN = { noNullPrototype: true } as const
/** Text of one line, as ids, targets and versions are. */
const line = fc
  .string({ unit: 'grapheme' })
  .map((text) => text.replaceAll('\n', ' '))
  .filter((text) => text.isWellFormed())
/** What node hands over of a header: one char per byte, no line breaks. */
const latin1 = fc
  .uint8Array({ maxLength: 40 })
  .map((bytes) => Buffer.from(bytes).toString('latin1').replaceAll('\n', ' '))
const pairs = fc.array(fc.tuple(latin1, latin1), { maxLength: 12 })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const atUs = fc.integer({ min: 0, max: 2 ** 52 })

t.test('BEGIN: any session, target, labels and header pairs come back', async (t) => {
  const fields = fc.record(
    {
      arrivedAtUs: atUs,
      session: line,
      run: line,
      turn: u32,
      method: line,
      httpVersion: line,
      target: line,
      forwardedTarget: line,
      upstream: line,
      policyVersion: line,
      mode: fc.constantFrom(...MODES),
      generation: u32,
      tags: fc.dictionary(fc.string(), fc.string()),
      headers: pairs,
      group: fc.option(
        line.filter((text) => text !== ''),
        { nil: undefined },
      ),
      keyHmac: fc.option(line, { nil: undefined }),
      isRequired: fc.boolean(),
      seq: fc.integer({ min: 1, max: 2 ** 53 - 1 }),
    },
    PLAIN,
  )
  fc.assert(
    fc.property(fields, ({ tags, headers, seq, group, keyHmac, isRequired, ...begin }) => {
      const tagsJson = JSON.stringify(tags)
      const named = {
        ...begin,
        ...(group === undefined ? {} : { group }),
        ...(keyHmac === undefined ? {} : { keyHmac }),
      }
      const payload = formatBegin({ ...named, tagsJson, rawHeaders: headers.flat() })
      t.strictSame(parseBegin(payload, 'rec', seq, isRequired ? FLAG_REQUIRES_TOKENS : 0), {
        ...named,
        ...(isRequired ? { requiresTokens: true } : {}),
        id: `rec-${seq}`,
        seq,
        tags: JSON.parse(tagsJson),
        headers,
      })
    }),
  )
})

t.test('SENT: any body, or that of the client, and what was done to it', async (t) => {
  const transforms = [{ name: 'capture', version: 1, skipped: 'größe' }] as const
  const strip = {
    version: 1,
    rules: [{ path: 'a/*/b', how: 'null' }] as const,
    dropsEmpty: true,
    dropsUsage: false,
    eventBytesMax: 1,
    bodyBytesMax: 2,
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const sent = { transforms, strip, body: Buffer.from(bytes) }
      t.strictSame(parseSent(formatSent(sent), 0), sent)
    }),
  )
  t.strictSame(parseSent(formatSent({ transforms }), FLAG_SAME_BODY), { transforms })
})

t.test('HEAD: status, reason, header pairs and flags come back', async (t) => {
  const status = fc.integer({ min: 100, max: 999 })
  fc.assert(
    fc.property(atUs, status, latin1, pairs, fc.boolean(), (at, code, reason, headers, own) => {
      const payload = formatHead(at, code, reason, headers.flat())
      const flags = own ? FLAG_OWN : FLAG_INTERIM
      const expected = { status: code, reason, headers, atUs: at, own }
      t.strictSame(parseHead(payload, flags), expected)
    }),
  )
})

t.test('TRAILERS, ATTEMPT and GAP come back', async (t) => {
  fc.assert(
    fc.property(pairs, (trailers) => {
      t.strictSame(parseTrailers(formatTrailers(trailers.flat())), trailers)
    }),
  )
  for (const frame of [
    { upstream: 'http://größe:1', status: 503, error: null, durationMs: 1.25 },
    { upstream: '', status: null, error: 'upstream_reset', durationMs: 0 },
    { bytes: 2 ** 40, reason: 'a\nb "c"' },
  ]) {
    t.strictSame(parseJson(formatJson(frame)), frame)
  }
})

t.test('END: every cause, any count, any text in the message', async (t) => {
  const fields = fc.record(
    {
      cause: fc.constantFrom(...CAUSES),
      bytesReceived: atUs,
      bytesForwarded: atUs,
      atUs,
      part: u32,
      code: line,
      message: fc.string({ unit: 'grapheme' }).filter((text) => text.isWellFormed()),
    },
    PLAIN,
  )
  fc.assert(fc.property(fields, (end) => t.strictSame(parseEnd(formatEnd(end)), end)))
})

t.test('CHUNKS: any bytes with any time between them come back', async (t) => {
  const chunk = fc.record({ bytes: fc.uint8Array({ maxLength: 300 }), deltaUs: u32 })
  fc.assert(
    fc.property(atUs, fc.array(chunk), (first, chunks) => {
      const out = Buffer.alloc(8 + chunks.reduce((sum, { bytes }) => sum + 8 + bytes.length, 0))
      out.writeDoubleLE(first)
      let at = 8
      for (const { bytes, deltaUs } of chunks) {
        at = out.writeUInt32LE(bytes.length, at)
        at = out.writeUInt32LE(deltaUs, at)
        at += Buffer.from(bytes).copy(out, at)
      }
      let time = first
      t.strictSame(
        parseChunks(out),
        chunks.map(({ bytes, deltaUs }) => ({
          bytes: Buffer.from(bytes),
          atUs: (time += deltaUs),
        })),
      )
    }),
  )
})

t.test('a frame header comes back, and no byte of it can be changed unnoticed', async (t) => {
  const header = fc.record(
    {
      kind: fc.integer({ min: 1, max: 255 }),
      flags: fc.integer({ min: 0, max: 255 }),
      payloadBytes: fc.integer({ min: 0, max: FRAME_PAYLOAD_BYTES_MAX }),
      seq: fc.integer({ min: 0, max: 2 ** 53 - 1 }),
      previousSegment: u32,
      previousOffset: atUs,
    },
    PLAIN,
  )
  fc.assert(
    fc.property(
      header,
      fc.integer({ min: 0, max: 35 }),
      fc.integer({ min: 1, max: 255 }),
      (...of) => {
        const [fields, place, flip] = of
        const bytes = Buffer.alloc(FRAME_HEADER_BYTES + 5, 0xee)
        writeFrameHeader(bytes, 3, fields)
        t.strictSame(readFrameHeader(bytes, 3), fields)
        bytes[3 + place]! ^= flip
        t.equal(readFrameHeader(bytes, 3), undefined)
      },
    ),
  )
})

t.test('no frame header: too short, kind 0, zeroes, a payload over the bound', async (t) => {
  const fields = { flags: 0, seq: 1, previousSegment: 0, previousOffset: 0 }
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES)
  t.equal(readFrameHeader(bytes, 0), undefined, 'zeroes')
  writeFrameHeader(bytes, 0, { ...fields, kind: 1, payloadBytes: FRAME_PAYLOAD_BYTES_MAX })
  t.not(readFrameHeader(bytes, 0), undefined, 'the bound itself')
  for (let length = 0; length < bytes.length; length++) {
    t.equal(readFrameHeader(bytes.subarray(0, length), 0), undefined, `${length} bytes`)
  }
  writeFrameHeader(bytes, 0, { ...fields, kind: 1, payloadBytes: FRAME_PAYLOAD_BYTES_MAX + 1 })
  t.equal(readFrameHeader(bytes, 0), undefined, 'over the bound')
  writeFrameHeader(bytes, 0, { ...fields, kind: 0, payloadBytes: 0 })
  t.equal(readFrameHeader(bytes, 0), undefined, 'kind 0')
})

t.test(
  'a segment header comes back, and none of its bytes can be missing or changed',
  async (t) => {
    const header = {
      recordingId: 'größe',
      lane: 3,
      number: 12,
      createdAtUs: 1.76e15,
      seqBase: 2 ** 40,
    }
    const bytes = formatSegmentHeader(header)
    t.strictSame(parseSegmentHeader(Buffer.concat([bytes, Buffer.from('RTF1…')])), {
      header,
      version: 1,
      bytes: bytes.length,
    })
    for (let i = 0; i < bytes.length; i++) {
      t.equal(parseSegmentHeader(bytes.subarray(0, i)), undefined, `${i} bytes of it`)
      const changed = Buffer.from(bytes)
      changed[i]! ^= 0x41
      t.equal(parseSegmentHeader(changed), undefined, `byte ${i} changed`)
    }
  },
)

t.test('segment names: lane and number there and back, others are none', async (t) => {
  for (const [lane, number, name] of [
    [0, 1, '0-000001.tape'],
    [63, 999_999, '63-999999.tape'],
    [1, 1_000_000, '1-1000000.tape'],
  ] as const) {
    t.equal(segmentName(lane, number), name)
    t.strictSame(parseSegmentName(name), { lane, number })
  }
  for (const name of ['lock', 'turns', '0-1.tape', '0-000001.tape.new', 'a-000001.tape', '']) {
    t.equal(parseSegmentName(name), undefined, name)
  }
})
