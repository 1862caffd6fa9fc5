/**
 * What becomes free again in a run, told to all threads: a ring of released records in shared
 * memory, and an epoch that counts the times when everything may have changed.
 *
 * A thread that remembers something about taken records ("all before this one are taken") catches
 * up before it relies on it. Who releases frees the record first and tells after, so a release that
 * is over before a thread catches up is either heard of, or seen in the states themselves. A thread
 * that has fallen behind by more than the ring holds, or meets a place that is being written,
 * forgets all it remembers, which is always right.
 */
import { RELEASES_MAX } from '../limits.ts'

const EPOCH = 0
const HEAD = 1
const RING = 2
/** Words of a place in the ring: the number of the release plus one, and the record. */
const PLACE_WORDS = 2

/** Words of one run's ring. */
export const RELEASES_WORDS = RING + RELEASES_MAX * PLACE_WORDS

/** One run's releases, and how far this thread has heard of them. */
export class Releases {
  readonly #words: Int32Array
  #epoch: number
  #heard: number

  constructor(words: Int32Array) {
    this.#words = words
    this.#epoch = Atomics.load(words, EPOCH)
    this.#heard = Atomics.load(words, HEAD)
  }

  /** A record has been made free. */
  tell(record: number): void {
    const number = Atomics.add(this.#words, HEAD, 1)
    const at = placeOf(number)
    Atomics.store(this.#words, at, 0)
    Atomics.store(this.#words, at + 1, record)
    Atomics.store(this.#words, at, (number + 1) | 0 || 1)
  }

  /** All has changed: records are free again, sessions unbound. */
  tellAll(): void {
    Atomics.add(this.#words, EPOCH, 1)
  }

  /** Calls `onRecord` for each record released since the last time, or `onAll`. */
  catchUp(onRecord: (record: number) => void, onAll: () => void): void {
    const epoch = Atomics.load(this.#words, EPOCH)
    const head = Atomics.load(this.#words, HEAD)
    if (epoch === this.#epoch && head === this.#heard) return
    const isAll = epoch !== this.#epoch || !this.#hear(head, onRecord)
    this.#epoch = epoch
    this.#heard = head
    if (isAll) onAll()
  }

  #hear(head: number, onRecord: (record: number) => void): boolean {
    if (((head - this.#heard) | 0) > RELEASES_MAX) return false
    for (let number = this.#heard; number !== head; number = (number + 1) | 0) {
      const at = placeOf(number)
      const mark = (number + 1) | 0 || 1
      if (Atomics.load(this.#words, at) !== mark) return false
      const record = Atomics.load(this.#words, at + 1)
      if (Atomics.load(this.#words, at) !== mark) return false
      onRecord(record)
    }
    return true
  }
}

function placeOf(number: number): number {
  return RING + ((number >>> 0) % RELEASES_MAX) * PLACE_WORDS
}
