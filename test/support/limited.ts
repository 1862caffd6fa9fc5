/** The real program under a limit of the system's. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import { MAIN } from '../cli/harness.ts'

/**
 * Starts `serve` on a free port under a limit, e.g. `-f 8`, as bash's `ulimit` takes it; `end` stops it
 * and gives exit code and log.
 */
export async function serveLimited(t: Test, limit: string, flags: readonly string[]) {
  // The test runner's hooks would write files of their own.
  const script = `ulimit ${limit}; unset NODE_OPTIONS; exec "$@"`
  const argv = [process.execPath, MAIN, 'serve', '--port', '0', '--control', 'off', ...flags]
  const child = spawn('bash', ['-c', script, 'bash', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const log = text(child.stderr)
  const exited = once(child, 'exit')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return {
    url: line.split(' ')[3] ?? '',
    pid: child.pid ?? 0,
    async end() {
      child.kill('SIGTERM')
      const [code] = (await exited) as [number]
      return { code, log: await log }
    },
  }
}
