/**
 * What one exchange looks like once it has been read back from the tape.
 *
 * The lane writes frames, `tape/reader.ts` gathers an exchange's frames and hands them on in this
 * shape, and `trajectory/` makes the record from it. Everything here is exactly what was on the
 * wire (header values that carry credentials excepted: they are redacted before the tape).
 */

import type { Mode } from '../mode.ts'
import type { StripSpec, Transform } from '../transforms/transform.ts'

/** Header name and value as sent, case and order and duplicates kept. */
export type HeaderPair = readonly [name: string, value: string]

/** Why the lane stopped working on an exchange; what derive concludes from it is the outcome. */
export type CloseCause =
  | 'upstream_end'
  | 'upstream_reset'
  | 'client_gone'
  | 'timeout_connect'
  | 'timeout_ttfb'
  | 'timeout_stall'
  | 'timeout_total'
  | 'cancelled'
  | 'error'

/** Where an exchange's last frame stands: enough to find all of it. */
export interface TapePosition {
  /** File name inside the tape folder, e.g. `0-000001.tape`. */
  readonly segment: string
  /** Byte offset of the frame's header in that file. */
  readonly offset: number
}

/** BEGIN: the request head and what rolltape decided about it on arrival. */
export interface BeginFrame {
  /** Unique over all recordings: `<recording id>-<seq>`. */
  readonly id: string
  /** Arrival number over all lanes and restarts of this recording, from 1. */
  readonly seq: number
  readonly session: string
  /** Turn among the session's generation requests, from 1; 0 for any other request. */
  readonly turn: number
  readonly run: string
  readonly tags: Readonly<Record<string, string>>
  readonly method: string
  /** Request target as the client sent it (query values that hold keys redacted). */
  readonly target: string
  /** Request target as sent upstream; empty when no upstream was chosen. */
  readonly forwardedTarget: string
  /** Base URL of the chosen upstream, without credentials; empty when none was chosen. */
  readonly upstream: string
  readonly httpVersion: string
  readonly headers: readonly HeaderPair[]
  /** Arrival of the request head, µs since the epoch. */
  readonly arrivedAtUs: number
  readonly mode: Mode
  readonly generation: number
  readonly policyVersion: string
  /** What the client called its group of samples; absent when it named none. */
  readonly group?: string
  /** Digest of the credential that the client showed; absent when it showed none. */
  readonly keyHmac?: string
  /** Given when tokens are to be there: a record that lacks some is flagged. */
  readonly requiresTokens?: true
}

/** SENT: what really went upstream, and what of the answer is not the client's. */
export interface SentFrame {
  readonly transforms: readonly Transform[]
  /** Given when the client's answer is the upstream's less something. */
  readonly strip?: StripSpec
  /** The body; undefined when it is the client's own. */
  readonly body?: Buffer
}

/** POLICY: versions of the policy other than the one at dispatch. */
export interface PolicyFrames {
  /** When the answer's head came. */
  readonly firstByte?: string
  readonly end?: string
}

/** ATTEMPT: one try at the upstream that did not become the answer, or the one that did. */
export interface AttemptFrame {
  readonly upstream: string
  /** HTTP status, or null when the try ended without one. */
  readonly status: number | null
  /** Stable code such as `upstream_reset`, or null. */
  readonly error: string | null
  readonly durationMs: number
}

/** HEAD: a response head as the client got it; where the answer was stripped, as it came. */
export interface HeadFrame {
  readonly status: number
  readonly reason: string
  readonly headers: readonly HeaderPair[]
  /** µs since the request's arrival. */
  readonly atUs: number
  /** True when rolltape itself made this answer (an error of its own), not the upstream. */
  readonly own: boolean
}

/** One piece of the answer's body as it came from the upstream socket. */
export interface Chunk {
  readonly bytes: Buffer
  /** µs since the request's arrival. */
  readonly atUs: number
}

/** END: how it ended. Absent when the process died first. */
export interface EndFrame {
  readonly cause: CloseCause
  /** Body bytes received from the upstream, as sent (before any decoding). */
  readonly bytesReceived: number
  /** Of those, body bytes handed to the client; where the answer was stripped, of what was left. */
  readonly bytesForwarded: number
  /** µs since the request's arrival. */
  readonly atUs: number
  /** Number of the `.jsonl` part this exchange belongs to, from 1. */
  readonly part: number
  /** Code of the error that ended it (see `errors.ts`), or empty. */
  readonly code: string
  /** One line for people about the error, or empty. */
  readonly message: string
}

/** Where a record of another recording stands: its line in a file, or its exchange on a tape. */
export type RecordedPlace =
  | {
      /** Absolute path of the `.jsonl`. */
      readonly file: string
      readonly offset: number
      readonly bytes: number
      readonly seq: number
    }
  | {
      /** Absolute path of the tape folder. */
      readonly folder: string
      readonly segment: string
      /** Offset of the exchange's last frame. */
      readonly offset: number
      readonly seq: number
    }

/** MATCH: what a live answer is compared with (mode `verify`). */
export interface MatchFrame {
  /** How the record was found, or why there is none. */
  readonly how: 'raw' | 'canonical' | 'sequence' | 'missed' | 'exhausted' | 'invalid'
  /** Undefined when there is none. */
  readonly recorded?: RecordedPlace
}

/** GAP: a stretch that could not be taped. */
export interface GapFrame {
  readonly bytes: number
  readonly reason: string
}

/** An exchange as the tape holds it. */
export interface TapedExchange {
  readonly begin: BeginFrame
  /** Request body, whole, as the client sent it. */
  readonly requestBody: Buffer
  /** Given where transforms had something to say. */
  readonly sent?: SentFrame
  /** Given where the policy changed meanwhile. */
  readonly policy?: PolicyFrames
  /** Given in mode `verify` only. */
  readonly match?: MatchFrame
  readonly attempts: readonly AttemptFrame[]
  /** Interim (1xx) heads, in order. */
  readonly interim: readonly HeadFrame[]
  /** The final head; undefined when none had come. */
  readonly head: HeadFrame | undefined
  readonly chunks: readonly Chunk[]
  readonly trailers: readonly HeaderPair[]
  readonly gaps: readonly GapFrame[]
  /** Undefined when the process died before the exchange ended. */
  readonly end: EndFrame | undefined
  /** Where the last frame stands. */
  readonly position: TapePosition
}
