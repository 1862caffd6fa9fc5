/**
 * A play worker: reads recorded answers for a lane, which never reads files itself. Why it awaits at
 * its top is told in derive.ts.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { move, transferableSymbol, valueSymbol, workerData } from 'piscina'
import { RolltapeError } from '../src/errors.ts'
import type { LinePosition, PlayTask, PlayedAnswer } from '../src/replay/answer.ts'
import { explainMiss } from '../src/replay/explain-task.ts'
import { canonicalKey } from '../src/replay/key.ts'
import type { Key } from '../src/replay/key.ts'
import { shapeAnswer } from '../src/replay/shape.ts'
import type { TapePosition } from '../src/tape/exchange.ts'
import { TapeFolder } from '../src/tape/reader.ts'
import { deriveRecord } from '../src/trajectory/derive.ts'
import { protocolOf } from '../src/wire/protocol.ts'

/** What the worker is started with: files of records, a tape, or both. */
export interface PlayWorkerData {
  readonly files: readonly string[]
  readonly folder: string | undefined
}

const { tapedAnswer, withRecordedHead } = await import('../src/replay/answer.ts')
const { files, folder } = workerData as PlayWorkerData
const tape = folder === undefined ? undefined : new TapeFolder(folder)

/** Piscina's entry. An answer's body moves to the lane; a text says why there is no answer. */
export default function play(task: PlayTask): PlayedAnswer | string | Key | undefined {
  if ('canonical' in task) {
    const { head, body, ignore } = task.canonical
    return canonicalKey(head, body, ignore)
  }
  if ('explain' in task) {
    return explainMiss(task.explain, (place) => {
      if ('line' in place) return readLine(place.line)
      const { position, seq, otherwise } = place
      return unlessLetGo(() => derivedLine(position, seq), otherwise && (() => readLine(otherwise)))
    })
  }
  const answer = answerOf(task)
  return typeof answer === 'string' ? answer : moved(answer)
}

function answerOf(
  task: Exclude<PlayTask, { canonical: unknown } | { explain: unknown }>,
): PlayedAnswer | string {
  if ('line' in task) return shapeAnswer(readLine(task.line), task.form)
  if (tape === undefined) throw new TypeError('a position and no tape')
  const { otherwise } = task
  return unlessLetGo(
    () => answerOnTape(tape, task),
    otherwise && (() => shapeAnswer(readLine(otherwise.line), otherwise.form)),
  )
}

/** What the tape says, or else what the records say, if the tape was let go since it was indexed. */
function unlessLetGo<T>(read: () => T, otherwise: (() => T) | undefined): T {
  try {
    return read()
  } catch (error) {
    const isLetGo = error instanceof RolltapeError && error.code === 'tape_let_go'
    if (isLetGo && otherwise !== undefined) return otherwise()
    throw error
  }
}

function answerOnTape(
  tape: TapeFolder,
  { position, seq, form }: Extract<PlayTask, { position: unknown }>,
): PlayedAnswer | string {
  const exchange = tape.exchange(position, seq)
  if (form === undefined) return tapedAnswer(exchange)
  const protocol = protocolOf(exchange.begin.method, exchange.begin.target)
  const isOwn = protocol !== 'openai.chat' && protocol !== 'openai.completions'
  if (form.single && isOwn) return tapedAnswer(exchange)
  const shaped = shapeAnswer(deriveRecord(exchange).line.toString('utf8'), form)
  return typeof shaped === 'string' ? shaped : withRecordedHead(shaped, exchange)
}

/** The record of an exchange of a tape that has no file of records. */
function derivedLine(position: TapePosition, seq: number): string {
  if (tape === undefined) throw new TypeError('a position and no tape')
  return deriveRecord(tape.exchange(position, seq)).line.toString('utf8')
}

function readLine({ file: number, offset, length }: LinePosition): string {
  const file = files[number]
  if (file === undefined) throw new TypeError('a line and no file')
  const line = Buffer.allocUnsafe(length)
  const fd = openSync(file, 'r')
  try {
    const got = readSync(fd, line, 0, length, offset)
    if (got === length) return line.toString('utf8')
  } finally {
    closeSync(fd)
  }
  throw new RolltapeError('tape_record_unusable', `${file} is shorter than when it was indexed`)
}

/** The answer in a wrapping that hands its body's memory over; Piscina takes it off again. */
function moved(answer: PlayedAnswer): PlayedAnswer {
  const wrapped = { [transferableSymbol]: [answer.body.buffer], [valueSymbol]: answer }
  return move(wrapped as unknown as ArrayBuffer) as unknown as PlayedAnswer
}
