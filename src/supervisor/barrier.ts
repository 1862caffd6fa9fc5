/** A barrier over all lanes: what was over before has its record. */
import type { Recording } from './recording.ts'
import type { Supervisor } from './supervisor.ts'

/**
 * Resolves once every exchange that is over now has its record in the file.
 * @throws RolltapeError `tape_unavailable`, `lane_lost`.
 */
export async function barrier(supervisor: Supervisor, recording: Recording): Promise<void> {
  const lanes = Array.from({ length: supervisor.lanes }, (_, lane) => lane)
  await Promise.all(lanes.map((lane) => supervisor.ask(lane, 'flush', null)))
  // What a lane that died had left is known once its successor answers.
  await recording.recovered()
}
