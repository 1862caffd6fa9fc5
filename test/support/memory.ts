/** The heap, for tests that ask what is still held. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

/** A full collection. */
export const collectGarbage = runInNewContext('gc') as () => void
