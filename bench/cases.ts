/** What is measured under load: the load of each case, its arms, and what one operation of it is. */
import type { Arm } from './arms/arm.ts'
import { FORWARDING } from './arms/peers.ts'
import { replaying } from './arms/replays.ts'
import { ROLLTAPE } from './arms/rolltape.ts'
import { direct, haproxy, nginx } from './arms/servers.ts'
import type { Load, LoadResult } from './native.ts'

/** One case. */
export interface Case {
  readonly name: string
  readonly title: string
  /** What CPU time is divided by. */
  readonly unit: 'request' | 'chunk'
  /** Part of `--quick`. */
  readonly quick: boolean
  readonly arms: readonly Arm[]
  /** The arm that the others are compared with. */
  readonly base: string
  readonly load: (seconds: number) => Load
  /**
   * What comes before it is measured, so that everybody's code is compiled; the load itself where it
   * does that. A few long streams would not: they begin fifty requests a second.
   */
  readonly warmUp?: (seconds: number) => Load
}

/** Operations that a load did since it began to count. */
export function operations({ unit }: Case, result: LoadResult): number {
  return unit === 'chunk' ? result.events : result.done
}

const CHAT = '/v1/chat/completions'
const PACED = `${CHAT}?bytes=300&events=64&interval_us=20000`
/** Short streams, as fast as they go. */
const WARM = `${CHAT}?bytes=300&events=8&interval_us=0`
const [passthrough, record] = ROLLTAPE
if (passthrough === undefined || record === undefined) throw new TypeError('no arms of rolltape')
/** What every case has; `--quick` has no others. */
const OWN = [direct, nginx, passthrough, record]
const EVERYBODY = [direct, nginx, haproxy, ...FORWARDING, ...ROLLTAPE]

/** Names of the arms of `--quick`. */
export const QUICK_ARMS: readonly string[] = OWN.map(({ name }) => name)

/** Answers of 1 KB are what the mock gives anyway: real calls have no query, so theirs has none. */
function answering(bytes: number): string {
  return bytes === 1024 ? CHAT : `${CHAT}?bytes=${bytes}`
}

function unary(name: string, requestBytes: number, bytes: number, more: Partial<Case> = {}): Case {
  const target = answering(bytes)
  return {
    name,
    title: `unary ${requestBytes} B request, ${bytes} B answer, 64 connections`,
    unit: 'request',
    quick: false,
    arms: OWN,
    base: 'nginx',
    load: (seconds) => ({ connections: 64, seconds, requestBytes, target }),
    ...more,
  }
}

function stream(streams: number, perSecond: number, more: Partial<Case> = {}): Case {
  const interval = perSecond === 0 ? 0 : Math.round(1e6 / perSecond)
  const events = perSecond === 0 ? 1024 : 64
  const target = `${CHAT}?bytes=300&events=${events}&interval_us=${interval}`
  const pace = perSecond === 0 ? 'as fast as they go' : `× ${perSecond} chunks/s of 300 B`
  return {
    name: perSecond === 0 ? 'sse-saturated' : `sse-${streams}`,
    title: `SSE, ${streams} streams ${pace}`,
    unit: 'chunk',
    quick: false,
    arms: OWN,
    base: 'nginx',
    load: (seconds) => ({ connections: streams, seconds, requestBytes: 1024, target }),
    warmUp: (seconds) => ({ connections: 64, seconds, requestBytes: 1024, target: WARM }),
    ...more,
  }
}

/** Long bodies come at a rate: recordings of them would fill a disk otherwise. */
function atRate(requestBytes: number, bytes: number, rate: number): Partial<Case> {
  const target = answering(bytes)
  return {
    title: `unary ${requestBytes >> 10} KB request, ${bytes >> 10} KB answer, ${rate}/s`,
    load: (seconds) => ({ connections: 64, seconds, requestBytes, target, rate }),
  }
}

const ONE: Load = { connections: 1, seconds: 1, requestBytes: 1024, target: CHAT }
const STREAMED: Load = { ...ONE, target: `${CHAT}?bytes=300&events=64&interval_us=1000` }

/** All cases there are. */
export const CASES: readonly Case[] = [
  unary('unary-1k', 1024, 1024, { quick: true, arms: EVERYBODY }),
  unary('unary-32k', 32 << 10, 1024),
  unary('unary-400k', 400 << 10, 1024, atRate(400 << 10, 1024, 200)),
  unary('unary-200k-answer', 1024, 200 << 10, atRate(1024, 200 << 10, 200)),
  {
    ...unary('one-by-one', 1024, 1024, { quick: true, arms: EVERYBODY }),
    title: 'unary 1 KB, one at a time',
    load: (seconds) => ({ ...ONE, seconds }),
  },
  stream(1, 50),
  stream(64, 50),
  stream(100, 50),
  stream(256, 50),
  {
    ...stream(64, 50),
    name: 'ttft-64',
    title: 'about 64 streams × 50 chunks/s of 300 B, one begun every 20.4 ms',
    // Closed loops fall into step: all begin at once, and wait for each other.
    load: (seconds) => ({ ...STREAMED, connections: 128, seconds, target: PACED, rate: 49 }),
  },
  stream(1000, 20, { quick: true, arms: EVERYBODY.filter(({ name }) => name !== 'portkey') }),
  stream(4000, 5),
  stream(64, 0),
  {
    ...unary('replay-1k', 1024, 1024, { arms: replaying(ONE), base: 'bare node:http' }),
    title: 'unary 1 KB from a recording, 64 connections',
  },
  {
    ...stream(64, 50, { arms: replaying(STREAMED).slice(1), base: 'rolltape replay' }),
    name: 'replay-sse',
    title: 'streams of 64 events from a recording, at once, 64 connections',
    warmUp: (seconds) => ({ ...STREAMED, connections: 64, seconds }),
    load: (seconds) => ({ ...STREAMED, connections: 64, seconds }),
  },
]
