/**
 * A responder that shares no generated code with rolltape: it writes and reads its messages by field
 * number, over grpc-js.
 */
import { Metadata, credentials, makeGenericClientConstructor } from '@grpc/grpc-js'
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js'
import type { Test } from 'tap'
import { encode, messageOf, numberOf, read, textOf } from './control-client.ts'
import type { Fields, Sent } from './control-client.ts'

/** A request as it came. */
export interface Given {
  readonly id: number
  readonly delivery: number
  readonly session: string
  readonly run: string
  readonly turn: number
  readonly seq: number
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  /** Epoch s; 0 when there is none. */
  readonly deadline: number
}

/** Something a responder was told. */
export type Told =
  | { kind: 'welcome'; queue: string; waiting: number }
  | { kind: 'request'; given: Given }
  | { kind: 'cancelled'; id: number }
  | { kind: 'accepted'; id: number }
  | { kind: 'rejected'; id: number; reason: string }
  | { kind: 'ended'; session: string; why: number }
  | { kind: 'hold'; id: number; hold: boolean }
  | { kind: 'gone'; code: number; details: string }

type Kind = Told['kind']

/** A connected responder. */
export class TestResponder {
  readonly all: Told[] = []
  readonly call: ClientDuplexStream<Sent, Fields>
  onRequest: (given: Given) => void = () => undefined
  /** What nobody has asked for yet. */
  readonly #left: Told[] = []
  #more = Promise.withResolvers<void>()
  #parts: { fields: Fields; body: Buffer[] } | undefined

  constructor(t: Pick<Test, 'teardown'>, address: string, token?: string) {
    const shape = {
      path: '/rolltape.responder.v1.ResponderService/Serve',
      requestStream: true,
      responseStream: true,
      requestSerialize: encode,
      requestDeserialize: read,
      responseSerialize: encode,
      responseDeserialize: read,
    }
    const Client = makeGenericClientConstructor({ serve: shape }, 'Raw')
    const client = new Client(address, credentials.createInsecure())
    const metadata = new Metadata()
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`)
    this.call = (
      client as unknown as { serve(metadata: Metadata): ClientDuplexStream<Sent, Fields> }
    ).serve(metadata)
    this.call.on('data', (fields: Fields) => this.#onMessage(fields))
    this.call.on('error', ({ code, details }: ServiceError) => {
      this.#tell({ kind: 'gone', code, details })
    })
    this.call.on('end', () => this.#tell({ kind: 'gone', code: 0, details: '' }))
    t.teardown(() => {
      this.call.cancel()
      client.close()
    })
  }

  /** Says hello and waits for the welcome. */
  async hello(queue = '', credits = 8): Promise<this> {
    this.greet(queue, credits)
    await this.next('welcome')
    return this
  }

  /** Says hello. */
  greet(queue = '', credits = 8): void {
    this.say({ 1: encode({ 1: queue, 2: credits }) })
  }

  say(message: Sent): void {
    this.call.write(message)
  }

  answer(
    id: number,
    body: string | Buffer,
    status = 0,
    headers: Record<string, string> = {},
  ): void {
    this.say({ 3: encode({ 1: id, 2: status, 3: pairs(headers), 4: Buffer.from(body) }) })
  }

  head(id: number, status = 0, headers: Record<string, string> = {}): void {
    this.say({ 4: encode({ 1: id, 2: status, 3: pairs(headers) }) })
  }

  chunk(id: number, data: string | Buffer): void {
    this.say({ 5: encode({ 1: id, 2: Buffer.from(data) }) })
  }

  end(id: number): void {
    this.say({ 6: encode({ 1: id }) })
  }

  fail(id: number, message: string): void {
    this.say({ 7: encode({ 1: id, 2: message }) })
  }

  credits(credits: number): void {
    this.say({ 2: encode({ 1: credits }) })
  }

  /** Leaves without a word. */
  die(): void {
    this.call.cancel()
  }

  /** The next of a kind. */
  async next<K extends Kind>(kind: K): Promise<Extract<Told, { kind: K }>> {
    for (;;) {
      const at = this.#left.findIndex((told) => told.kind === kind)
      if (at >= 0) return this.#left.splice(at, 1)[0] as Extract<Told, { kind: K }>
      await this.#more.promise
    }
  }

  /** The next request. */
  async given(): Promise<Given> {
    return (await this.next('request')).given
  }

  #onMessage(fields: Fields): void {
    const of = (number: number): Fields | undefined => messageOf(fields, number)
    const [welcome, request, part] = [of(1), of(2), of(3)]
    if (welcome) {
      return this.#tell({
        kind: 'welcome',
        queue: textOf(welcome, 1),
        waiting: numberOf(welcome, 2),
      })
    }
    if (request) this.#parts = { fields: request, body: [bytesOf(request, 11)] }
    if (part) {
      if (this.#parts === undefined || numberOf(part, 1) !== numberOf(this.#parts.fields, 1)) {
        throw new Error('a part of a body came apart from its request')
      }
      this.#parts.body.push(bytesOf(part, 2))
    }
    if (request || part) return this.#gather()
    if (this.#parts !== undefined) throw new Error('something came amid the parts of a body')
    const [cancelled, ended, accepted, rejected, hold] = [of(4), of(5), of(6), of(7), of(8)]
    if (cancelled) this.#tell({ kind: 'cancelled', id: numberOf(cancelled, 1) })
    if (ended) this.#tell({ kind: 'ended', session: textOf(ended, 1), why: numberOf(ended, 2) })
    if (accepted) this.#tell({ kind: 'accepted', id: numberOf(accepted, 1) })
    if (rejected) {
      this.#tell({ kind: 'rejected', id: numberOf(rejected, 1), reason: textOf(rejected, 2) })
    }
    if (hold) this.#tell({ kind: 'hold', id: numberOf(hold, 1), hold: numberOf(hold, 2) === 1 })
  }

  #gather(): void {
    const { fields, body } = this.#parts!
    const whole = Buffer.concat(body)
    if (whole.length < numberOf(fields, 10)) return
    this.#parts = undefined
    const headers = (fields.get(9) ?? []).map((header) => {
      const pair = read(header as Buffer)
      return [textOf(pair, 1).toLowerCase(), textOf(pair, 2)]
    })
    const given: Given = {
      id: numberOf(fields, 1),
      delivery: numberOf(fields, 2),
      session: textOf(fields, 3),
      run: textOf(fields, 4),
      turn: numberOf(fields, 5),
      seq: numberOf(fields, 6),
      method: textOf(fields, 7),
      path: textOf(fields, 8),
      headers: Object.fromEntries(headers) as Record<string, string>,
      body: whole,
      deadline: numberOf(messageOf(fields, 12), 1),
    }
    this.#tell({ kind: 'request', given })
    this.onRequest(given)
  }

  #tell(told: Told): void {
    this.all.push(told)
    this.#left.push(told)
    this.#more.resolve()
    this.#more = Promise.withResolvers<void>()
  }
}

/** Resolves once so many requests wait in a queue, `default` unless it is named. */
export async function untilWaiting(
  t: Test,
  address: string,
  count: number,
  queue = '',
): Promise<void> {
  for (;;) {
    const responder = new TestResponder(t, address)
    responder.greet(queue, 0)
    const { waiting } = await responder.next('welcome')
    responder.call.end()
    if (waiting === count) return
  }
}

function bytesOf(fields: Fields, number: number): Buffer {
  return (fields.get(number)?.[0] as Buffer | undefined) ?? Buffer.alloc(0)
}

function pairs(headers: Record<string, string>): Buffer[] {
  return Object.entries(headers).map(([name, value]) => encode({ 1: name, 2: value }))
}
