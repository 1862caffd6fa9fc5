/** A supervisor with the control API over it, for tests that need more of it than callers see. */
import type { Test } from 'tap'
import { startControl } from '../../src/control/server.ts'
import { resolveOptions } from '../../src/options.ts'
import type { RolltapeOptions } from '../../src/options.ts'
import { SupervisorTarget } from '../../src/supervisor/control-target.ts'
import type { LaneRules } from '../../src/supervisor/lanes.ts'
import { Supervisor } from '../../src/supervisor/supervisor.ts'

/** A running one. */
export interface Steered {
  readonly supervisor: Supervisor
  readonly url: string
  readonly address: string
}

/** Starts one; it is closed when the test ends. */
export async function startSteered(
  t: Test,
  options: RolltapeOptions,
  rules: LaneRules = {},
): Promise<Steered> {
  const config = resolveOptions({ options: { port: 0, ...options } })
  const quiet = (): void => undefined
  const supervisor = new Supervisor(config, { debug: quiet, warn: quiet, error: quiet }, rules)
  await supervisor.start()
  const url = `http://127.0.0.1:${supervisor.port}`
  const target = new SupervisorTarget(supervisor, { url, close: quiet })
  const at = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const
  const control = await startControl(at, config, target, (error) => t.fail(error.message))
  t.teardown(async () => {
    supervisor.watch.close()
    await control.close()
    await supervisor.close(0)
  })
  return { supervisor, url, address: control.address }
}
