/**
 * One exchange, put together from its frames as a reader meets them: from the last to the first.
 */
import type {
  AttemptFrame,
  BeginFrame,
  Chunk,
  EndFrame,
  GapFrame,
  HeaderPair,
  HeadFrame,
  MatchFrame,
  PolicyFrames,
  SentFrame,
  TapedExchange,
  TapePosition,
} from './exchange.ts'
import {
  FLAG_AT_HEAD,
  FLAG_INTERIM,
  KIND,
  parseBegin,
  parseChunks,
  parseEnd,
  parseHead,
  parseJson,
  parseSent,
  parseTrailers,
} from './format.ts'
import type { FrameHeader } from './format.ts'

/** Gathers the frames of one exchange. */
export class ExchangeParts {
  #begin: BeginFrame | undefined
  #end: EndFrame | undefined
  #head: HeadFrame | undefined
  #trailers: HeaderPair[] = []
  #match: MatchFrame | undefined
  #sent: SentFrame | undefined
  #policy: PolicyFrames | undefined
  readonly #interim: HeadFrame[] = []
  readonly #request: Buffer[] = []
  readonly #chunks: Chunk[][] = []
  readonly #attempts: AttemptFrame[] = []
  readonly #gaps: GapFrame[] = []

  /** Takes one frame; its payload is copied, since readers reuse their memory. */
  take(frame: FrameHeader & { readonly payload: Buffer | undefined }, recordingId: string): void {
    const { kind, flags, seq } = frame
    const payload = Buffer.from(frame.payload ?? Buffer.alloc(0))
    switch (kind) {
      case KIND.begin:
        this.#begin = parseBegin(payload, recordingId, seq, flags)
        break
      case KIND.request:
        this.#request.push(payload)
        break
      case KIND.sent:
        // The last one counts: what was sent before it was refused.
        this.#sent ??= parseSent(payload, flags)
        break
      case KIND.attempt:
        this.#attempts.push(parseJson<AttemptFrame>(payload))
        break
      case KIND.head:
        if (flags & FLAG_INTERIM) this.#interim.push(parseHead(payload, flags))
        else this.#head = parseHead(payload, flags)
        break
      case KIND.chunks:
        this.#chunks.push(parseChunks(payload))
        break
      case KIND.trailers:
        this.#trailers = parseTrailers(payload)
        break
      case KIND.gap:
        this.#gaps.push(parseJson<GapFrame>(payload))
        break
      case KIND.match:
        this.#match = parseJson<MatchFrame>(payload)
        break
      case KIND.policy:
        this.#policy = withVersion(this.#policy, payload.toString('utf8'), flags)
        break
      case KIND.end:
        // The last one counts: a second END says that the first could not be kept.
        this.#end ??= parseEnd(payload)
        break
    }
  }

  /** The exchange, once its BEGIN has been taken. */
  assemble(position: TapePosition): TapedExchange {
    return {
      begin: this.#begin as BeginFrame,
      requestBody: Buffer.concat(this.#request.reverse()),
      attempts: this.#attempts.reverse(),
      interim: this.#interim.reverse(),
      head: this.#head,
      chunks: this.#chunks.reverse().flat(),
      trailers: this.#trailers,
      gaps: this.#gaps.reverse(),
      end: this.#end,
      position,
      ...(this.#sent && { sent: this.#sent }),
      ...(this.#policy && { policy: this.#policy }),
      ...(this.#match && { match: this.#match }),
    }
  }
}

/** Of two for the same moment the later one counts, which is met first. */
function withVersion(
  known: PolicyFrames | undefined,
  version: string,
  flags: number,
): PolicyFrames {
  return (flags & FLAG_AT_HEAD) === 0
    ? { end: version, ...known }
    : { firstByte: version, ...known }
}
