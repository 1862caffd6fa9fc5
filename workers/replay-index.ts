/** An index worker: reads a replay source, or joins what was read into an index. */
import { runIndexTask } from '../src/replay/index-task.ts'

/** Piscina's entry. */
export default runIndexTask
