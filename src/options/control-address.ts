/**
 * Where the control API listens and where its clients connect: `127.0.0.1:50051`, `[::1]:50051`,
 * `unix:/run/rolltape.sock`, or `off`.
 */
import { Refusal } from './kinds.ts'
import type { Kind } from './kinds.ts'

/** An address of the control API. */
export type ControlAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** Longest path of a socket that Linux takes, its end mark and a temporary name's rest left out. */
const SOCKET_PATH_BYTES_MAX = 90

/** An address; null is `off`. */
export const controlAddress: Kind<ControlAddress | null> = {
  placeholder: '<host:port|unix:path|off>',
  expected: 'an address with its port, unix: and the path of a socket, or off',
  example: '127.0.0.1:50051',
  repeatable: false,
  parse(value) {
    // YAML reads a bare `off` as text, but other readers of the file may write false.
    if (value === 'off' || value === false) return null
    const address = typeof value === 'string' ? parseControlAddress(value) : undefined
    if (address === undefined) throw new Refusal()
    if (address.kind === 'unix' && Buffer.byteLength(address.path) > SOCKET_PATH_BYTES_MAX) {
      throw new Refusal(
        `the path of a socket may have ${SOCKET_PATH_BYTES_MAX} bytes, and ${address.path} has more`,
      )
    }
    return address
  },
}

/** Reads an address; undefined when it is none. */
export function parseControlAddress(text: string): ControlAddress | undefined {
  const unix = /^unix:(?:\/\/(?=\/))?(.+)$/s.exec(text)
  if (unix !== null) return { kind: 'unix', path: unix[1] ?? '' }
  const tcp = /^(?:\[([0-9a-f:.%\w]+)\]|([^:/[\]\s]+)):(\d{1,5})$/i.exec(text)
  const port = Number(tcp?.[3])
  if (tcp === null || port > 65_535) return undefined
  return { kind: 'tcp', host: tcp[1] ?? tcp[2] ?? '', port }
}

/** The other half of {@link parseControlAddress}. */
export function formatControlAddress(address: ControlAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  const { host, port } = address
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
