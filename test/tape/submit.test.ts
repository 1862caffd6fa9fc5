// What is submitted while a write is under way is written right after it, asked for by nobody else.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { KIND } from '../../src/tape/format.ts'
import { HeldDisk } from '../support/lane.ts'
import { close, makeWriter } from './tapes.ts'

t.test('frames submitted during a write follow it at once', async (t) => {
  const held = new HeldDisk()
  const { writer, folder } = makeWriter(t, { disk: held.disk })
  const tail = { seq: 1, segment: 0, offset: 0 }
  held.hold()
  writer.append(tail, KIND.request, 0, Buffer.from('first'))
  writer.submit()
  await held.heldWrite()
  writer.append(tail, KIND.request, 0, Buffer.from('second'))
  writer.submit()
  held.release()
  const path = `${folder}/${writer.nameOf(1)}`
  // Nobody waits for a commit and no tick comes: the write alone must go on.
  while (!readFileSync(path).includes('second')) await turn()
  await close(writer)
})

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
