/**
 * The names of all threads' entry files, and their URLs: right in a checkout, where `.ts` is run as
 * it stands, and in `dist/`, where the compiler has left `.js` beside this file's own.
 */

const SUFFIX = import.meta.url.endsWith('.ts') ? '.ts' : '.js'

/** Entry file of a thread. */
export type WorkerName =
  | 'lane'
  | 'derive'
  | 'append'
  | 'inspect'
  | 'play'
  | 'explain'
  | 'replay-index'
  | 'trajectories'
  | 'seal'

/** Where a thread's entry file is. */
export function workerUrl(name: WorkerName): URL {
  return new URL(`../workers/${name}${SUFFIX}`, import.meta.url)
}
