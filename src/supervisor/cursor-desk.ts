/**
 * Cursors as callers see them: with the names of those who ask, which lanes have learnt. A lane is
 * asked only about sessions that go by another name than the recorded one.
 */
import { RolltapeError } from '../errors.ts'
import type { LaneReplay } from '../lane/player.ts'
import type { ServedRules } from '../replay/packed.ts'
import { Cursors } from './cursors.ts'
import type { Cursor, CursorName } from './cursors.ts'
import type { Lanes } from './lanes.ts'

/** Reads and moves cursors. */
export class CursorDesk {
  readonly #lanes: Lanes
  readonly #source: () => LaneReplay | undefined
  readonly #rules: () => ServedRules
  #cursors:
    | { readonly of: LaneReplay; readonly by: ServedRules; readonly cursors: Cursors }
    | undefined

  /** `source` is what is replayed now, `rules` say which of its records are served. */
  constructor(lanes: Lanes, source: () => LaneReplay | undefined, rules: () => ServedRules) {
    this.#lanes = lanes
    this.#source = source
    this.#rules = rules
  }

  /**
   * Cursors by run and recorded session, from behind `after` on, at most `max`.
   * @throws RolltapeError `wrong_state` when nothing is replayed; as all of these.
   */
  list(asked: { run?: string; after?: CursorName; max: number }): Promise<Cursor[]> {
    return this.#named(this.#on().list(asked))
  }

  /** The cursors of a session in all runs, by who asks. */
  of(session: string): Promise<Cursor[]> {
    return this.#named(this.#on().of(session))
  }

  /** One cursor, see {@link Cursors.get}. */
  async get(name: CursorName): Promise<Cursor> {
    return this.#one(this.#on().get(name))
  }

  /** Moves one, see {@link Cursors.seek}. */
  async seek(
    name: CursorName,
    to: { readonly position: number; readonly expected?: number },
  ): Promise<Cursor> {
    return this.#one(this.#on().seek(name, to))
  }

  /** Moves one, or all of a run, back to the start, see {@link Cursors.reset}. */
  reset(run: string, session?: string): void {
    this.#on().reset(run, session)
  }

  /** Takes one over into another run, see {@link Cursors.fork}. */
  fork(from: CursorName, to: CursorName): Cursor {
    return this.#on().fork(from, to)
  }

  #on(): Cursors {
    const source = this.#source()
    if (source === undefined) {
      throw new RolltapeError('wrong_state', 'nothing is replayed, so there are no cursors', {
        hint: 'load a recording, or start rolltape with --replay-file',
      })
    }
    const by = this.#rules()
    if (this.#cursors?.of !== source || this.#cursors.by !== by) {
      this.#cursors = { of: source, by, cursors: new Cursors(source, by) }
    }
    return this.#cursors.cursors
  }

  async #one(cursor: Cursor): Promise<Cursor> {
    return (await this.#named([cursor]))[0] ?? cursor
  }

  async #named(cursors: Cursor[]): Promise<Cursor[]> {
    const runs = new Set(cursors.filter(isUnnamed).map(({ run }) => run))
    for (const run of runs) {
      const of = cursors.filter((cursor) => isUnnamed(cursor) && cursor.run === run)
      const recorded = of.map(({ recordedSession }) => recordedSession)
      const answers = await this.#lanes.askAll('askingNames', () => ({ run, recorded }))
      for (const [i, cursor] of of.entries()) {
        const session = answers.map((names) => names[i]).find((name) => typeof name === 'string')
        if (session !== undefined) cursors[cursors.indexOf(cursor)] = { ...cursor, session }
      }
    }
    return cursors
  }
}

function isUnnamed({ isBound, session }: Cursor): boolean {
  return isBound && session === null
}
