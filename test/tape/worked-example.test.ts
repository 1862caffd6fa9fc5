// The worked example of docs/tape-format.md is a segment: its bytes decode to what it says of them.
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { KIND } from '../../src/tape/format.ts'
import { readExchange } from '../../src/tape/reader.ts'
import { SegmentFile } from '../../src/tape/segment-file.ts'
import { makeFolder } from '../support/recorder.ts'

const NAME = '0-000001.tape'

/** The example's lines: where each stands, its bytes, and what is said of the field it begins. */
function linesOfExample(): { place: number; bytes: Buffer; meaning: string }[] {
  const doc = readFileSync(new URL('../../docs/tape-format.md', import.meta.url), 'utf8')
  const [, block = ''] = /## Worked example[^]*?```\n([^]*?)```/.exec(doc) ?? []
  return block
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => ({
      place: parseInt(line.slice(0, 4), 16),
      bytes: Buffer.from(line.slice(6, 53).replaceAll(' ', ''), 'hex'),
      meaning: line.slice(55),
    }))
}

t.test('each line stands where it says', async (t) => {
  let place = 0
  for (const line of linesOfExample()) {
    t.equal(line.place, place, line.meaning)
    place += line.bytes.length
  }
  t.equal(place, 475)
})

t.test('what is said of a field is what its bytes hold', async (t) => {
  const fields: { bytes: Buffer; meaning: string }[] = []
  for (const { bytes, meaning } of linesOfExample()) {
    const last = fields.at(-1)
    if (meaning === '' && last) last.bytes = Buffer.concat([last.bytes, bytes])
    else fields.push({ bytes, meaning })
  }
  t.equal(fields.length, 80)
  for (const { bytes, meaning } of fields) {
    const value = meaning.slice(meaning.lastIndexOf(': ') + 2)
    if (meaning === 'zero') t.ok(bytes.every((byte) => byte === 0))
    else if (meaning.includes('"')) {
      const json = meaning.slice(meaning.indexOf('"'))
      const encoding = meaning.includes('header lines') ? 'latin1' : 'utf8'
      t.equal(JSON.stringify(bytes.toString(encoding)), json, meaning)
    } else t.equal(numberIn(bytes), Number(value.split(' ')[0]), meaning)
  }
})

t.test('read as a segment it gives the one exchange', async (t) => {
  const folder = makeFolder(t)
  const lines = linesOfExample()
  writeFileSync(`${folder}/${NAME}`, Buffer.concat(lines.map(({ bytes }) => bytes)))
  const file = new SegmentFile(folder, NAME)
  const frames: number[][] = []
  const report = file.walk(({ kind, offset }) => void frames.push([kind, offset]))
  t.strictSame(file.header, {
    recordingId: 'rec',
    lane: 0,
    number: 1,
    createdAtUs: 1_760_000_000_000_000,
    seqBase: 0,
  })
  file.close()
  t.strictSame(report, { skipped: [], end: 475, tornBytes: 0 })
  t.strictSame(frames, [
    [KIND.begin, 0x64],
    [KIND.request, 0xec],
    [KIND.head, 0x116],
    [KIND.chunks, 0x14e],
    [KIND.end, 0x193],
  ])
  const position = { segment: NAME, offset: 0x193 }
  t.strictSame(readExchange(folder, position), {
    begin: {
      id: 'rec-1',
      seq: 1,
      session: 'é',
      turn: 1,
      run: 'default',
      tags: {},
      method: 'POST',
      target: '/v1/responses',
      forwardedTarget: '/v1/responses',
      upstream: 'http://u',
      httpVersion: '1.1',
      headers: [
        ['Host', 'x'],
        ['X-L', 'é'],
      ],
      arrivedAtUs: 1_760_000_000_250_000,
      mode: 'record',
      generation: 1,
      policyVersion: '',
    },
    requestBody: Buffer.from('{}'),
    attempts: [],
    interim: [],
    head: { status: 200, reason: 'OK', headers: [['a', 'b']], atUs: 1_000, own: false },
    chunks: [
      { bytes: Buffer.from('Hel'), atUs: 2_000 },
      { bytes: Buffer.from('lo'), atUs: 3_500 },
    ],
    trailers: [],
    gaps: [],
    end: {
      cause: 'upstream_end',
      bytesReceived: 5,
      bytesForwarded: 5,
      atUs: 4_000,
      part: 1,
      code: '',
      message: '',
    },
    position,
  })
})

function numberIn(bytes: Buffer): number {
  return bytes.length === 8 ? bytes.readDoubleLE() : bytes.readUIntLE(0, bytes.length)
}
