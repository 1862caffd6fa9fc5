/** Calls of the trajectory service by a client that knows none of its generated code. */
import { createHash } from 'node:crypto'
import type { ClientReadableStream } from '@grpc/grpc-js'
import type { ControlClient, Fields, Sent } from './control-client.ts'
import { messageOf, numberOf, textOf } from './control-client.ts'

const SERVICE = 'rolltape.trajectory.v1.TrajectoryService'

/** A trajectory that was given whole. */
export interface Given {
  readonly session: string
  readonly version: number
  readonly sinceSeq: number
  readonly reward: number | undefined
  readonly isDone: boolean
  readonly note: string
  /** SHA-256 that it is frozen with; empty when it is not. */
  readonly frozen: string
  readonly token: string
  /** The records' lines. */
  readonly lines: readonly string[]
  readonly pieces: number
  /** Records, turns, failed, tool calls, tokens in, tokens out. */
  readonly summary: readonly number[]
  readonly sha256: string
  readonly isChanged: boolean
}

/** Puts the pieces of a stream together. */
export class Gathering {
  #head: Fields = new Map()
  #pieces: Buffer[] = []

  /** Takes a message; a trajectory when this was its last. `head`: field of the head, the rest follows. */
  take(message: Fields, head: number): Given | undefined {
    const begun = messageOf(message, head)
    if (begun !== undefined) [this.#head, this.#pieces] = [begun, []]
    const piece = message.get(head + 1)?.[0]
    if (Buffer.isBuffer(piece)) this.#pieces.push(piece)
    const end = messageOf(message, head + 2)
    if (end === undefined) return undefined
    const bytes = Buffer.concat(this.#pieces)
    const said = messageOf(this.#head, 5) ?? new Map()
    const summary = messageOf(end, 2) ?? new Map()
    const given = {
      session: textOf(this.#head, 1),
      version: numberOf(this.#head, 2),
      sinceSeq: numberOf(this.#head, 4),
      reward: said.get(2)?.[0] as number | undefined,
      isDone: numberOf(said, 3) === 1,
      note: textOf(said, 4),
      frozen: textOf(messageOf(this.#head, 6) ?? new Map(), 4),
      token: textOf(end, 1),
      lines: bytes.toString().split('\n').slice(0, -1),
      pieces: this.#pieces.length,
      summary: [1, 2, 3, 4, 5, 6].map((field) => numberOf(summary, field)),
      sha256: textOf(end, 3),
      isChanged: numberOf(end, 4) === 1,
    }
    const digest = createHash('sha256').update(bytes).digest('hex')
    if (digest !== given.sha256) throw new Error(`${given.session}: the digest is not that`)
    return given
  }
}

/** Gets one session. */
export async function getTrajectory(client: ControlClient, session: string): Promise<Given> {
  const gathering = new Gathering()
  for await (const message of client.watch({ 1: session }, `${SERVICE}/GetTrajectory`)) {
    const given = gathering.take(message as Fields, 1)
    if (given !== undefined) return given
  }
  throw new Error('the stream ended before the trajectory did')
}

/** What a stream is asked for. */
export interface StreamAsked {
  readonly consumer?: string
  readonly token?: string
  readonly once?: boolean
}

/** A consumer's stream. */
export class Consumer {
  /** Where it began. */
  started = ''
  readonly #stream: ClientReadableStream<Fields>
  readonly #gathering = new Gathering()

  constructor(client: ControlClient, { consumer, token, once }: StreamAsked = {}) {
    const request: Sent = {
      ...(consumer !== undefined && { 1: consumer }),
      ...(token !== undefined && { 2: token }),
      ...(once === true && { 3: 1 }),
    }
    this.#stream = client.watch(request, `${SERVICE}/StreamTrajectories`)
    this.#stream.on('error', () => undefined)
  }

  /** The next trajectories, so many, or fewer when the stream ends. */
  async take(count = Infinity): Promise<Given[]> {
    const taken: Given[] = []
    const messages = this.#stream.iterator({ destroyOnReturn: false })
    for await (const message of messages) {
      const started = messageOf(message as Fields, 1)
      if (started !== undefined) this.started = textOf(started, 1)
      const given = this.#gathering.take(message as Fields, 2)
      if (given !== undefined) taken.push(given)
      if (taken.length >= count) break
    }
    return taken
  }

  /** The connection breaks. */
  kill(): void {
    this.#stream.cancel()
  }
}

/** Acknowledges; the token of the place then. */
export async function acknowledge(
  client: ControlClient,
  token: string,
  consumer = '',
): Promise<string> {
  const request: Sent = { ...(consumer !== '' && { 1: consumer }), 2: token }
  return textOf(await client.call(`${SERVICE}/AckTrajectories`, request), 1)
}
