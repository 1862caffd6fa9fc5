/**
 * An index worker: reads a replay source, or joins what was read into an index. Why it awaits at its
 * top is told in derive.ts.
 */
const { runIndexTask } = await import('../src/replay/index-task.ts')

/** Piscina's entry. */
export default runIndexTask
