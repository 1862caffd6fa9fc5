/** A rolltape with its control API on, and calls by a client that knows nothing of our code: buf. */
import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { ROOT } from '../../tools/tree.ts'
import { startRolltape } from '../../src/rolltape.ts'
import type { Rolltape, RolltapeOptions } from '../../src/rolltape.ts'

/** A rolltape that can be steered. */
export interface Controlled {
  readonly rolltape: Rolltape
  readonly url: string
  readonly address: string
}

/** Starts one; it is closed when the test ends. */
export async function startControlled(t: Test, options: RolltapeOptions): Promise<Controlled> {
  const rolltape = await startRolltape({
    port: 0,
    control: '127.0.0.1:0',
    drainTimeout: 5,
    logLevel: 'error',
    ...options,
  })
  t.teardown(() => rolltape.close())
  return { rolltape, url: rolltape.url, address: rolltape.controlAddress ?? '' }
}

/** How a call by buf went. */
export interface Called {
  /** 0, or the gRPC status times 8. */
  readonly code: number
  /** One message, or several of a stream. */
  readonly messages: Record<string, unknown>[]
  readonly stderr: string
}

/** buf's own binary: the wrapper around it would stay between a signal and the call. */
export const BUF = findBuf()

/** Like `t.test`, for what calls with buf: skipped, with a word, where buf has no package. */
export function testWithBuf(name: string, run: (t: Test) => Promise<void>): void {
  const skip = BUF === '' && `buf has no package for ${process.platform} on ${process.arch}`
  void t.test(name, { skip }, run)
}

function findBuf(): string {
  const isLinuxArm = process.platform === 'linux' && process.arch === 'arm64'
  const name = `@bufbuild/buf-${process.platform}-${isLinuxArm ? 'aarch64' : process.arch}/bin/buf`
  try {
    return createRequire(join(ROOT, 'tools/buf/buf.ts')).resolve(name)
  } catch {
    return ''
  }
}

/** The control service. */
export const SERVICE = 'rolltape.control.v1.ControlService'

/** Calls a method over reflection. `method` is a name of the control service, or one with its own. */
export function bufCurl(
  address: string,
  method: string,
  data: object = {},
  ...flags: string[]
): Promise<Called> {
  const secure = flags.includes('--cacert')
  const path = method.includes('/') ? method : `${SERVICE}/${method}`
  const isSocket = address.startsWith('unix:')
  const host = isSocket ? 'localhost' : address
  const args = [
    'curl',
    '--protocol',
    'grpc',
    ...(secure ? [] : ['--http2-prior-knowledge']),
    ...(isSocket ? ['--unix-socket', address.slice('unix:'.length)] : []),
    '--data',
    JSON.stringify(data),
    ...flags,
    `${secure ? 'https' : 'http'}://${host}/${path}`,
  ]
  return new Promise((resolve) => {
    execFile(BUF, args, { cwd: ROOT, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : Number(error.code ?? -1)
      resolve({ code, messages: splitJson(stdout), stderr })
    })
  })
}

/** The one message of a call that went well. */
export async function ask(
  address: string,
  method: string,
  data: object = {},
): Promise<Record<string, unknown>> {
  const { code, messages, stderr } = await bufCurl(address, method, data)
  const [message] = messages
  if (code !== 0 || message === undefined) throw new Error(`${method}: ${code} ${stderr}`)
  return message
}

/** Asks until the answer is as wanted: a part that does not say in time how it is counts as silent. */
export async function askUntil(
  address: string,
  method: string,
  isSo: (answer: Record<string, unknown>) => boolean,
): Promise<Record<string, unknown>> {
  for (;;) {
    const answer = await ask(address, method)
    if (isSo(answer)) return answer
  }
}

/** A refusal as buf tells it: the status in its own words, and the message. */
export async function refusal(
  address: string,
  method: string,
  data: object = {},
  ...flags: string[]
): Promise<[status: string, message: string]> {
  const { stderr } = await bufCurl(address, method, data, ...flags)
  const at = stderr.indexOf('{')
  const told = JSON.parse(at < 0 ? '{}' : stderr.slice(at)) as { code?: string; message?: string }
  return [told.code ?? stderr, told.message ?? '']
}

/** Objects that stand one behind the other, as buf prints a stream. */
export function splitJson(text: string): Record<string, unknown>[] {
  const parts = text.trim() === '' ? [] : text.trim().split(/\n(?=\{)/)
  return parts.map((part) => JSON.parse(part) as Record<string, unknown>)
}
