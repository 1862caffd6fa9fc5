/**
 * A grpc-js client of the control API that shares no generated code with it: it writes and reads
 * protobuf by field number, so a field that moved or changed its type is seen.
 */
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire'
import { Metadata, credentials, makeGenericClientConstructor } from '@grpc/grpc-js'
import type { ChannelCredentials, ClientReadableStream, ServiceError } from '@grpc/grpc-js'
import type { Test } from 'tap'
import { SERVICE } from './control.ts'

/** Fields of a message by number: numbers of varints, bytes of what has a length. */
export type Fields = Map<number, (number | Buffer)[]>

/** What a field holds: a whole number, one that is not and goes as a double, a text, or a message. */
type Value = number | string | Buffer

/** A message to send: each field's value, or several of them. */
export type Sent = Record<number, Value | readonly Value[]>

interface Raw {
  unary(request: Sent, metadata: Metadata, options: object, done: Done): { cancel(): void }
  watch(request: Sent, metadata: Metadata): ClientReadableStream<Fields>
  close(): void
}

type Done = (error: ServiceError | null, answer: Fields) => void

/** A connected client. */
export class ControlClient {
  readonly #address: string
  readonly #credentials: ChannelCredentials
  readonly #clients = new Map<string, Raw>()
  readonly #metadata = new Metadata()

  constructor(t: Test, address: string, given: { token?: string; tls?: ChannelCredentials } = {}) {
    this.#address = address
    this.#credentials = given.tls ?? credentials.createInsecure()
    if (given.token !== undefined) this.#metadata.set('authorization', `Bearer ${given.token}`)
    t.teardown(() => this.close())
  }

  /** Calls a method; rejects with grpc-js's error. A deadline of its own only where that is tested. */
  call(method: string, request: Sent = {}, deadlineMs = 120_000): Promise<Fields> {
    const { promise, resolve, reject } = Promise.withResolvers<Fields>()
    const options = { deadline: Date.now() + deadlineMs }
    this.#raw(method).unary(request, this.#metadata, options, (error, answer) => {
      if (error === null) resolve(answer)
      else reject(error)
    })
    return promise
  }

  /** Opens a stream of answers. */
  watch(request: Sent = {}, method = 'WatchExchanges'): ClientReadableStream<Fields> {
    return this.#raw(method).watch(request, this.#metadata)
  }

  close(): void {
    for (const client of this.#clients.values()) client.close()
    this.#clients.clear()
  }

  #raw(method: string): Raw {
    const path = method.includes('/') ? `/${method}` : `/${SERVICE}/${method}`
    let client = this.#clients.get(path)
    if (client === undefined) {
      const shape = {
        path,
        requestStream: false,
        requestSerialize: encode,
        requestDeserialize: read,
        responseSerialize: encode,
        responseDeserialize: read,
      }
      const Client = makeGenericClientConstructor(
        {
          unary: { ...shape, responseStream: false },
          watch: { ...shape, responseStream: true },
        },
        'Raw',
      )
      client = new Client(this.#address, this.#credentials) as unknown as Raw
      this.#clients.set(path, client)
    }
    return client
  }
}

/** Reads a message. */
export function read(bytes: Uint8Array): Fields {
  const fields: Fields = new Map()
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag()
    let value: number | Buffer
    if (type === 0) value = Number(reader.int64())
    else if (type === 1) value = reader.double()
    else if (type === 2) value = Buffer.from(reader.bytes())
    else throw new Error(`field ${number} has wire type ${type}`)
    fields.set(number, [...(fields.get(number) ?? []), value])
  }
  return fields
}

/** The first value of a field as text. */
export function textOf(fields: Fields, number: number): string {
  return String(fields.get(number)?.[0] ?? '')
}

/** The first value of a field as a message. */
export function messageOf(fields: Fields, number: number): Fields | undefined {
  const value = fields.get(number)?.[0]
  return Buffer.isBuffer(value) ? read(value) : undefined
}

/** The first value of a field as a number; 0 when it is not there. */
export function numberOf(fields: Fields | undefined, number: number): number {
  return Number(fields?.get(number)?.[0] ?? 0)
}

/** A message as bytes, to be sent or put into another. */
export function encode(message: Sent): Buffer {
  const writer = new BinaryWriter()
  const fields = Object.entries(message).flatMap(([number, values]) =>
    [values].flat().map((value) => [Number(number), value as Value] as const),
  )
  for (const [number, value] of fields) {
    if (Number.isInteger(value)) writer.uint32(number << 3).int64(Number(value))
    else if (typeof value === 'number') writer.uint32((number << 3) | 1).double(value)
    else writer.uint32((number << 3) | 2).bytes(Buffer.from(value))
  }
  return Buffer.from(writer.finish())
}
