/**
 * How far the consumers of a recording's trajectories have acknowledged: `runs/a.consumers.json`,
 * replaced whole at each step.
 *
 *   {"schema":"rolltape.consumers/1","recording":"5f0c…","places":{"trainer":1234}}
 */
import { RolltapeError, errorText } from '../errors.ts'
import { CONSUMERS_MAX } from '../limits.ts'
import type { Disk } from '../tape/disk.ts'
import { realDisk, replaceFile } from '../tape/disk.ts'
import { isObject } from '../wire/json.ts'

const SCHEMA = 'rolltape.consumers/1'

/** Where a recording's places are. */
export function consumersFile(file: string): string {
  return `${file.replace(/\.jsonl$/, '')}.consumers.json`
}

/** What places are of, and where they are kept. */
export interface ConsumerPlacesOptions {
  readonly path: string
  readonly recordingId: string
  /** Places behind this are none: the annotations have been cut. */
  readonly end: number
  readonly disk?: Disk
}

/** The places of one recording's consumers. */
export class ConsumerPlaces {
  readonly #options: ConsumerPlacesOptions
  readonly #disk: Disk
  #places: ReadonlyMap<string, number>

  /** Reads what there is; what cannot be read is nothing, so that all comes again. */
  constructor(options: ConsumerPlacesOptions) {
    this.#options = options
    this.#disk = options.disk ?? realDisk
    this.#places = this.#read()
  }

  /** Behind what a consumer is to be given trajectories. */
  placeOf(consumer: string): number {
    return this.#places.get(consumer) ?? 0
  }

  /**
   * A consumer has got so far; its place then, which never goes back.
   * @throws RolltapeError `over_capacity`, `tape_unavailable`; then its place is as it was.
   */
  advance(consumer: string, place: number): number {
    const now = this.placeOf(consumer)
    if (place <= now) return now
    if (!this.#places.has(consumer) && this.#places.size >= CONSUMERS_MAX) {
      const message = `the places of ${CONSUMERS_MAX} consumers are kept, which is the most`
      throw new RolltapeError('over_capacity', message, {
        hint: 'forget one: acknowledge with an empty token',
      })
    }
    this.#write(new Map(this.#places).set(consumer, place))
    return place
  }

  /**
   * Begins anew with a consumer.
   * @throws RolltapeError `tape_unavailable`.
   */
  forget(consumer: string): void {
    const places = new Map(this.#places)
    if (places.delete(consumer)) this.#write(places)
  }

  #read(): ReadonlyMap<string, number> {
    const { path, recordingId, end } = this.#options
    try {
      const kept: unknown = JSON.parse(this.#disk.readFileSync(path).toString('utf8'))
      if (!isObject(kept) || kept['recording'] !== recordingId) return new Map()
      const places = Object.entries(isObject(kept['places']) ? kept['places'] : {})
      return new Map(
        places.filter((pair): pair is [string, number] => {
          return typeof pair[1] === 'number' && pair[1] <= end
        }),
      )
    } catch {
      return new Map()
    }
  }

  #write(places: ReadonlyMap<string, number>): void {
    const { path, recordingId } = this.#options
    const kept = { schema: SCHEMA, recording: recordingId, places: Object.fromEntries(places) }
    const bytes = Buffer.from(`${JSON.stringify(kept)}\n`)
    try {
      replaceFile(this.#disk, path, bytes)
    } catch (cause) {
      const message = `cannot write ${path}: ${errorText(cause)}`
      throw new RolltapeError('tape_unavailable', message, { cause })
    }
    this.#places = places
  }
}
