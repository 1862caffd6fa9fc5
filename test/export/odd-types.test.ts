/**
 * Lines whose members have another type than ours: what reads them counts such a member as absent,
 * whichever it is and whatever stands there, and tells of all the others.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { FORMATS } from '../../src/export/formats.ts'
import type { StoredRecord } from '../../src/trajectory/jsonl.ts'
import { soundRecord } from '../../src/trajectory/sound.ts'
import { recordOf, rolltape } from '../cli/harness.ts'
import { makeFolder } from '../support/recorder.ts'

const TOKENS = [
  {
    index: 0,
    prompt_token_ids: [1, 2],
    token_ids: [3],
    logprobs: [-0.5],
    tokens: ['a'],
    aligned: true,
  },
]
const ODD = [5, 'x', true, null, [], [5], {}, { x: 5 }, 1e300, -1.5]

/** A value with each of its members, however deep, replaced by each odd one in turn. */
function* mutants(value: unknown): Generator<unknown> {
  yield* ODD
  if (typeof value !== 'object' || value === null) return
  for (const [key, member] of Object.entries(value)) {
    for (const odd of mutants(member)) {
      if (!Array.isArray(value)) yield { ...value, [key]: odd }
      else yield value.map((each: unknown, at) => (at === Number(key) ? odd : each))
    }
  }
}

const sound = recordOf(0, { tokens: TOKENS, client_retry: 1, group: 'g' })
const lines: object[] = []
for (const [key, member] of Object.entries(sound)) {
  for (const odd of mutants(member)) {
    const n = lines.length + 1
    lines.push({ ...sound, seq: n, id: `rec-${n}`, [key]: odd })
  }
}
const file = join(makeFolder(t), 'a.jsonl')
writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))

t.test('a sound record is taken as it is, odd members alone are left out', async (t) => {
  t.equal(soundRecord(sound), sound)
  const odd = { ...sound, usage: 5, timings: 'x' } as unknown as StoredRecord
  const left = Object.entries(sound).filter(([key]) => key !== 'usage' && key !== 'timings')
  t.strictSame(Object.entries(soundRecord(odd)), left)
})

t.test('stats and inspect tell of every line', async (t) => {
  const stats = await rolltape(['stats', file, '--json'])
  t.strictSame([stats.code, stats.stderr], [0, ''])
  t.match(JSON.parse(stats.stdout.trim().split('\n').at(-1) ?? ''), { exchanges: lines.length })
  t.match(await rolltape(['stats', file]), { code: 0, stderr: '' })
  const inspected = await rolltape(['inspect', file, '--json'])
  t.strictSame([inspected.code, inspected.stderr], [0, ''])
  const told = inspected.stdout.trim().split('\n')
  t.equal(told.filter((line) => line.includes('"kind":"exchange"')).length, lines.length)
  t.match(await rolltape(['inspect', file]), { code: 0, stderr: '' })
})

for (const format of Object.keys(FORMATS)) {
  t.test(`an export as ${format} comes to its end`, async (t) => {
    const out = join(makeFolder(t), 'out')
    for (const flags of [[], ['--aligned', '--policy-version', 'x', '--retries', 'drop']]) {
      const { code, stderr } = await rolltape(
        ['export', file, '--format', format, '--out', out].concat(flags),
      )
      t.equal(code, 0, stderr)
    }
  })
}
