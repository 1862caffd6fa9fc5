/** An index worker: reads stretches of a replay source, or joins what was read into an index. */
import { move, transferableSymbol, valueSymbol } from 'piscina'
import { runIndexTask } from '../src/replay/index-task.ts'
import type { IndexAnswer, IndexTask } from '../src/replay/index-task.ts'

/** Piscina's entry. Packed records move to whoever asked. */
export default function index(task: IndexTask): IndexAnswer {
  const result = runIndexTask(task)
  if (!('records' in result)) return result
  const buffer = result.records.words.buffer
  const wrapped = { [transferableSymbol]: [buffer], [valueSymbol]: result }
  return move(wrapped as unknown as ArrayBuffer) as unknown as IndexAnswer
}
