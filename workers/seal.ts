/** Seals segments and lets them go, one step per message; at the lowest priority there is. */
import { parentPort, workerData } from 'node:worker_threads'
import { errorText } from '../src/errors.ts'
import { LOWEST, makeWay } from '../src/priority.ts'
import { SegmentKeeper } from '../src/trajectory/segment-keeper.ts'
import type { KeepRules, KeepState } from '../src/trajectory/segment-keeper.ts'
import type { KeepAnswer } from '../src/supervisor/tape-keeping.ts'

makeWay(LOWEST)

const keeper = new SegmentKeeper(workerData as KeepRules)

parentPort?.on('message', (state: KeepState) => parentPort?.postMessage(answer(state)))

function answer(state: KeepState): KeepAnswer {
  try {
    const step = keeper.step(state) ?? null
    return { step, trouble: null, passedBy: keeper.takeTroubles() }
  } catch (error) {
    return { step: null, trouble: errorText(error), passedBy: keeper.takeTroubles() }
  }
}
