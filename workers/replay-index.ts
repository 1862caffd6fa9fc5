/** An index worker: reads a replay source, or joins what was read into an index. */
import { move, transferableSymbol, valueSymbol } from 'piscina'
import { runIndexTask } from '../src/replay/index-task.ts'
import type { IndexAnswer, IndexTask } from '../src/replay/index-task.ts'

/** Piscina's entry. Packed records move to whoever asked. */
export default function index(task: IndexTask): IndexAnswer {
  const answer = runIndexTask(task)
  const buffers = new Set<ArrayBufferLike>()
  if ('records' in answer) buffers.add(answer.records.words.buffer)
  if ('blocks' in answer) for (const { records } of answer.blocks) buffers.add(records.words.buffer)
  if (buffers.size === 0) return answer
  const wrapped = { [transferableSymbol]: [...buffers], [valueSymbol]: answer }
  return move(wrapped as unknown as ArrayBuffer) as unknown as IndexAnswer
}
