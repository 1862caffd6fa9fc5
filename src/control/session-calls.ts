/** The calls about sessions and cursors. */
import { RolltapeError, toRolltapeError } from '../errors.ts'
import { ANNOTATION_NOTE_CHARS_MAX, ANNOTATION_TAGS_MAX, SESSION_ID_BYTES_MAX } from '../limits.ts'
import type { Cursor as CursorRead, CursorName } from '../supervisor/cursors.ts'
import type { Session as SessionRead } from '../supervisor/sessions.ts'
import type { AnnotationInput } from '../trajectory/annotations.ts'
import type { Outcome } from '../trajectory/record.ts'
import { bad, pageSizeOf, readToken, token } from './arguments.ts'
import type { Caller } from './calls.ts'
import type {
  AnnotateSessionRequest,
  AnnotateSessionResponse,
  CloseSessionRequest,
  CloseSessionResponse,
  Cursor,
  ForkCursorRequest,
  ForkCursorResponse,
  GetCursorRequest,
  GetCursorResponse,
  GetSessionRequest,
  GetSessionResponse,
  ListCursorsRequest,
  ListCursorsResponse,
  ListSessionsRequest,
  ListSessionsResponse,
  ResetCursorsRequest,
  ResetCursorsResponse,
  SeekCursorRequest,
  SeekCursorResponse,
  Session,
} from './gen/rolltape/control/v1/control.ts'
import { Mode } from './gen/rolltape/control/v1/control.ts'
import { MODE, OUTCOME } from './messages.ts'
import type { ControlTarget } from './target.ts'

/** The run that is meant when none is named. */
const DEFAULT_RUN = 'default'

/** Answers calls about sessions and cursors. */
export class SessionCalls {
  readonly #target: ControlTarget

  constructor(target: ControlTarget) {
    this.#target = target
  }

  async listSessions(request: ListSessionsRequest): Promise<ListSessionsResponse> {
    const size = pageSizeOf(request.pageSize)
    const after = readToken(request.pageToken) ?? ''
    const sessions = await this.#target.sessions.list(after, size + 1)
    const shown = sessions.slice(0, size)
    const last = sessions.length > size ? shown.at(-1) : undefined
    return {
      sessions: shown.map(sessionMessage),
      nextPageToken: last === undefined ? '' : token(last.session),
    }
  }

  async getSession(request: GetSessionRequest): Promise<GetSessionResponse> {
    const session = await this.#target.sessions.get(idOf('session', request.session))
    return { session: sessionMessage(session) }
  }

  async closeSession(request: CloseSessionRequest, caller: Caller): Promise<CloseSessionResponse> {
    const id = idOf('session', request.session)
    const { sessions, trajectories } = this.#target
    const snapshot = request.freeze ? await trajectories.freeze(id, caller) : undefined
    const finished = snapshot ?? trajectories.finish(id)
    const closed = await sessions.close(id).catch((error: unknown) => {
      // What was recorded before the start counts for what has finished, and for nothing else.
      if (finished !== undefined && toRolltapeError(error).code === 'not_found') return undefined
      throw error
    })
    const { session, cursors = [] } = closed ?? {}
    return {
      session: session && sessionMessage(session),
      cursors: cursors.map(cursorMessage),
      unused: cursors.reduce((sum, { total, used }) => sum + total - used, 0),
      snapshot: snapshot && { ...snapshot },
    }
  }

  annotateSession(request: AnnotateSessionRequest): AnnotateSessionResponse {
    const { at, file } = this.#target.annotate(annotationOf(request))
    return { time: new Date(at * 1_000), file }
  }

  async listCursors(request: ListCursorsRequest): Promise<ListCursorsResponse> {
    const size = pageSizeOf(request.pageSize)
    const after = afterOf(request.pageToken)
    const run = request.run === '' ? undefined : request.run
    const asked = { max: size + 1, ...(run !== undefined && { run }), ...(after && { after }) }
    const cursors = await this.#target.cursors.list(asked)
    const shown = cursors.slice(0, size)
    const last = cursors.length > size ? shown.at(-1) : undefined
    return {
      cursors: shown.map(cursorMessage),
      nextPageToken:
        last === undefined ? '' : token(JSON.stringify([last.run, last.recordedSession])),
    }
  }

  async getCursor(request: GetCursorRequest): Promise<GetCursorResponse> {
    return { cursor: cursorMessage(await this.#target.cursors.get(nameOf(request))) }
  }

  async seekCursor(request: SeekCursorRequest): Promise<SeekCursorResponse> {
    const { position, expectedPosition: expected } = request
    if (position < 0) throw bad(`position is ${position}, and positions begin at 0`)
    const to = { position, ...(expected !== undefined && { expected }) }
    return { cursor: cursorMessage(await this.#target.cursors.seek(nameOf(request), to)) }
  }

  async resetCursors(request: ResetCursorsRequest): Promise<ResetCursorsResponse> {
    const { cursors } = this.#target
    const run = request.run || DEFAULT_RUN
    const session = request.session || undefined
    cursors.reset(run, session)
    if (session === undefined) return { cursor: undefined }
    return { cursor: cursorMessage(await cursors.get({ run, session })) }
  }

  forkCursor(request: ForkCursorRequest): ForkCursorResponse {
    const from = nameOf(request)
    const run = idOf('to_run', request.toRun)
    const session = idOf('to_session', request.toSession || from.session)
    return { cursor: cursorMessage(this.#target.cursors.fork(from, { run, session })) }
  }
}

function idOf(field: string, id: string): string {
  const bytes = Buffer.byteLength(id)
  if (bytes >= 1 && bytes <= SESSION_ID_BYTES_MAX) return id
  throw bad(`${field} has ${bytes} bytes, and an id has from 1 to ${SESSION_ID_BYTES_MAX}`)
}

function nameOf({ run, session }: { run: string; session: string }): CursorName {
  return { run: run || DEFAULT_RUN, session: idOf('session', session) }
}

function afterOf(pageToken: string): CursorName | undefined {
  const text = readToken(pageToken)
  if (text === undefined) return undefined
  try {
    const [run, session] = JSON.parse(text) as unknown[]
    if (typeof run === 'string' && typeof session === 'string') return { run, session }
  } catch {
    // It is none, as told below.
  }
  throw bad('page_token is no token of this call; give the next_page_token of the page before')
}

function annotationOf(request: AnnotateSessionRequest): AnnotationInput {
  const session = idOf('session', request.session)
  const { tags, reward, done, note } = request
  const count = Object.keys(tags).length
  if (count > ANNOTATION_TAGS_MAX) {
    throw bad(`tags has ${count} entries, and at most ${ANNOTATION_TAGS_MAX} are taken`)
  }
  for (const [key, value] of Object.entries(tags)) {
    if (key === '' || key.length > 256 || value.length > 256) {
      throw bad(
        `tags holds ${JSON.stringify(key.slice(0, 80))}, and keys have 1 to 256 characters, values at most 256`,
      )
    }
  }
  if (reward !== undefined && !Number.isFinite(reward)) throw bad(`reward is ${reward}`)
  if (note.length > ANNOTATION_NOTE_CHARS_MAX) {
    throw bad(
      `note has ${note.length} characters, and at most ${ANNOTATION_NOTE_CHARS_MAX} are taken`,
    )
  }
  if (count === 0 && reward === undefined && done === undefined && note === '') {
    throw new RolltapeError(
      'bad_argument',
      'nothing is said: tags, reward, done and note are empty',
    )
  }
  return {
    session,
    ...(count > 0 && { tags }),
    ...(reward !== undefined && { reward }),
    ...(done !== undefined && { done }),
    ...(note !== '' && { note }),
  }
}

function sessionMessage(read: SessionRead): Session {
  const { session, outcomes, own, firstMs, lastMs, ...counts } = read
  return {
    ...counts,
    id: session,
    firstTime: new Date(firstMs),
    lastTime: new Date(lastMs),
    outcomes: (Object.entries(outcomes) as [Outcome, number][]).map(([outcome, count]) => ({
      outcome: OUTCOME[outcome],
      count,
    })),
    mode: own?.mode === undefined ? Mode.UNSPECIFIED : MODE[own.mode],
  }
}

function cursorMessage({ session, isBound, next, ...cursor }: CursorRead): Cursor {
  return {
    ...cursor,
    session: session ?? '',
    bound: isBound,
    nextSeq: next?.seq,
    nextTurn: next?.turn,
  }
}
