// What a restart makes of the `.jsonl` it finds: it ends with a whole line afterwards, and it is
// known which exchanges have theirs.
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import { realDisk } from '../../src/tape/disk.ts'
import { adoptLines } from '../../src/trajectory/adopt.ts'
import type { Checkpoint } from '../../src/trajectory/appender.ts'
import { makeFolder } from '../support/recorder.ts'

const NEW: Checkpoint = { jsonlBytes: 0, lines: 0, derived: [] }

function line(seq: number): string {
  return `{"model":"größe","seq":${seq}}\n`
}

const bytesOf = (text: string): number => Buffer.byteLength(text)

/** Adopts a file of this text; what is known then, and what is left of the file. */
async function adopt(t: Test, text: string | Buffer, from: Checkpoint = NEW) {
  const file = `${makeFolder(t)}/a.jsonl`
  writeFileSync(file, text)
  const adopted = await adoptLines(file, from, realDisk)
  return { ...adopted, left: readFileSync(file, 'utf8') }
}

t.test('without a checkpoint all lines are read', async (t) => {
  const text = [1, 2, 5].map(line).join('')
  t.strictSame(await adopt(t, text), {
    checkpoint: {
      jsonlBytes: bytesOf(text),
      lines: 3,
      derived: [
        [1, 2],
        [5, 5],
      ],
    },
    cutBytes: 0,
    left: text,
  })
  t.strictSame(await adopt(t, ''), { checkpoint: NEW, cutBytes: 0, left: '' })
})

t.test('lines up to the checkpoint are taken on its word, those after it are read', async (t) => {
  const before = 'not even JSON, and not looked at\n'
  const text = before + line(9)
  const from: Checkpoint = { jsonlBytes: bytesOf(before), lines: 7, derived: [[1, 7]] }
  t.strictSame(await adopt(t, text, from), {
    checkpoint: {
      jsonlBytes: bytesOf(text),
      lines: 8,
      derived: [
        [1, 7],
        [9, 9],
      ],
    },
    cutBytes: 0,
    left: text,
  })
  const nothingNew = { jsonlBytes: bytesOf(text), lines: 9, derived: [[1, 9]] } as const
  t.strictSame((await adopt(t, text, nothingNew)).checkpoint, nothingNew)
})

t.test('a last line torn at any byte is cut off', async (t) => {
  const whole = Buffer.from(line(1) + line(2))
  const start = bytesOf(line(1))
  for (let length = start; length <= whole.length; length++) {
    const { checkpoint, cutBytes, left } = await adopt(t, whole.subarray(0, length))
    const isWhole = length === whole.length
    t.strictSame(checkpoint.derived, [[1, isWhole ? 2 : 1]], `${length} bytes`)
    t.equal(checkpoint.jsonlBytes, isWhole ? length : start)
    t.equal(cutBytes, isWhole ? 0 : length - start)
    t.equal(left, isWhole ? whole.toString() : line(1))
  }
})

t.test('a whole last line without its break is cut off too: the tape has it', async (t) => {
  const from: Checkpoint = { jsonlBytes: bytesOf(line(1)), lines: 1, derived: [[1, 1]] }
  t.strictSame(await adopt(t, line(1) + line(2).trimEnd(), from), {
    checkpoint: from,
    cutBytes: bytesOf(line(2)) - 1,
    left: line(1),
  })
})

t.test('zeroes at the end, as a power cut leaves them, are cut off', async (t) => {
  const text = Buffer.concat([Buffer.from(line(1)), Buffer.alloc(5_000)])
  const { cutBytes, left } = await adopt(t, text)
  t.strictSame([cutBytes, left], [5_000, line(1)])
})

t.test(
  'a file shorter than its checkpoint is read whole, and what it lost is not known',
  async (t) => {
    const text = line(1) + line(3)
    const from: Checkpoint = { jsonlBytes: bytesOf(text) + 1, lines: 3, derived: [[1, 3]] }
    t.strictSame(await adopt(t, text, from), {
      checkpoint: {
        jsonlBytes: bytesOf(text),
        lines: 2,
        derived: [
          [1, 1],
          [3, 3],
        ],
      },
      cutBytes: 0,
      left: text,
    })
    t.strictSame((await adopt(t, '', from)).checkpoint, NEW)
  },
)

t.test('a checkpoint of before there were parts is not taken on its word', async (t) => {
  const from: Checkpoint = { jsonlBytes: bytesOf(line(1)), derived: [[1, 1]] }
  t.strictSame((await adopt(t, line(1) + line(2), from)).checkpoint, {
    jsonlBytes: bytesOf(line(1) + line(2)),
    lines: 2,
    derived: [[1, 2]],
  })
})

t.test('lines of other recorders have no number and stay', async (t) => {
  const text = `{"model":"m","status":"success"}\n${line(4)}`
  const { checkpoint, left } = await adopt(t, text)
  t.strictSame([checkpoint.derived, left], [[[4, 4]], text])
})

t.test(
  'a broken line that is not the last is told with its place, and nothing is cut',
  async (t) => {
    const file = `${makeFolder(t)}/a.jsonl`
    const text = `${line(1)}{"seq":\n${line(2)}`
    writeFileSync(file, text)
    await t.rejects(adoptLines(file, NEW, realDisk), {
      code: 'record_malformed',
      message: new RegExp(`line 2 of ${file} \\(byte ${bytesOf(line(1))}\\) is not JSON`),
    })
    t.equal(readFileSync(file, 'utf8'), text)
  },
)
