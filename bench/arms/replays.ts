/**
 * Systems that answer from a recording. Each records the mock's answers first, by itself and as its
 * documentation says, and is then started anew without an upstream.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TEST_CORE, pinned, runLoad } from '../native.ts'
import type { Load } from '../native.ts'
import { everyThread, freePort, listens, missingProgram, noRecords, stopped } from './arm.ts'
import type { Arm, RunningArm } from './arm.ts'
import { PEERS, PEERS_INSTALLED } from './peers.ts'
import { served } from './rolltape.ts'

/** Seconds of load that a recording is made of. */
const RECORDED_SECONDS = 1

/** A server of one process on the core under test. */
async function server(command: readonly string[], port: number, clean = (): void => undefined) {
  const [first = '', ...args] = command
  const child = pinned(TEST_CORE, first, args)
  child.stdout?.resume()
  await listens(port, child)
  return {
    port,
    ports: 1,
    pids: [child.pid ?? 0],
    replays: true,
    isLane: everyThread,
    records: noRecords,
    stop: async () => {
      await stopped(child)
      clean()
    },
  } satisfies RunningArm
}

/** node:http that reads a request and answers with bytes it holds: the floor of every replay. */
const bare: Arm = {
  name: 'bare node:http',
  missing: () => undefined,
  start: async () => {
    const port = await freePort()
    return server([process.execPath, join(PEERS, 'bare.mjs'), String(port)], port)
  },
}

/** rolltape at once, from its tape; a recording that has run out begins again. */
function rolltape(load: Load): Arm {
  return {
    name: 'rolltape replay',
    missing: () => undefined,
    start: async ({ port }) => {
      const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
      const file = join(folder, 'a.jsonl')
      const flags = ['--proxy-base-url', `http://127.0.0.1:${port}`, '--recording-file', file]
      const recorder = await served(flags, { records: noRecords, clean: () => undefined })
      await runLoad(recorder.port, 1, { ...load, connections: 16, seconds: RECORDED_SECONDS })
      await recorder.stop()
      const replay = ['--replay-file', file, '--on-exhausted', 'loop']
      const clean = (): void => rmSync(folder, { recursive: true, force: true })
      return { ...(await served(replay, { records: noRecords, clean })), replays: true }
    },
  }
}

/** mitmproxy's server replay. */
function mitmproxy(load: Load): Arm {
  return {
    name: 'mitmproxy replay',
    missing: () => missingProgram('mitmdump', '--version'),
    start: async (upstream) => {
      const folder = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
      const flows = join(folder, 'flows')
      const mode = ['--mode', `reverse:http://127.0.0.1:${upstream.port}`, '-q']
      const first = await freePort()
      const recorder = await server(['mitmdump', ...mode, '-p', String(first), '-w', flows], first)
      await runLoad(first, 1, { ...load, connections: 1, seconds: RECORDED_SECONDS })
      await recorder.stop()
      const port = await freePort()
      const replay = ['--server-replay', flows, '--set', 'server_replay_nopop=true']
      const lazy = ['--set', 'connection_strategy=lazy', '--set', 'server_replay_kill_extra=true']
      const command = ['mitmdump', ...mode, '-p', String(port), ...replay, ...lazy]
      return server(command, port, () => rmSync(folder, { recursive: true, force: true }))
    },
  }
}

const AIMOCK = join(PEERS_INSTALLED, 'node_modules/@copilotkit/aimock/dist/cli.js')

/** aimock, from fixtures that it recorded. */
function aimock(load: Load): Arm {
  return {
    name: 'aimock replay',
    missing: () => (existsSync(AIMOCK) ? undefined : 'aimock is not installed: use --set-up'),
    start: async (upstream) => {
      const fixtures = mkdtempSync(join(tmpdir(), 'rolltape-bench-'))
      mkdirSync(fixtures, { recursive: true })
      const base = [process.execPath, AIMOCK, '--log-level', 'silent', '-f', fixtures]
      const first = await freePort()
      const provider = ['--provider-openai', `http://127.0.0.1:${upstream.port}`]
      const recorder = await server([...base, '-p', String(first), '--record', ...provider], first)
      await runLoad(first, 1, { ...load, connections: 1, seconds: RECORDED_SECONDS })
      await recorder.stop()
      const port = await freePort()
      const clean = (): void => rmSync(fixtures, { recursive: true, force: true })
      return server([...base, '-p', String(port), '--replay-speed', '1000000'], port, clean)
    },
  }
}

/** All arms that answer this load from what they have recorded of it. */
export function replaying(load: Load): readonly Arm[] {
  return [bare, rolltape(load), mitmproxy(load), aimock(load)]
}
