/** How fast a recorded answer is given again. */

/** At once, at the recorded times by a factor, or at rates of one's own. */
export type Pace =
  | { readonly kind: 'instant' }
  | { readonly kind: 'scaled'; readonly factor: number }
  | { readonly kind: 'steady'; readonly ttftMs: number; readonly perChunkMs: number }

/** Reads `instant`, `original`, `x<factor>` (2 is twice as fast) or `ttft=<ms>,tps=<n>`. */
export function parsePace(text: string): Pace | undefined {
  if (text === 'instant') return { kind: 'instant' }
  if (text === 'original') return { kind: 'scaled', factor: 1 }
  const factor = /^x(\d+(?:\.\d+)?)$/.exec(text)?.[1]
  if (factor !== undefined) {
    return Number(factor) > 0 ? { kind: 'scaled', factor: Number(factor) } : undefined
  }
  const steady = /^ttft=(\d+(?:\.\d+)?),tps=(\d+(?:\.\d+)?)$/.exec(text)
  if (steady === null || Number(steady[2]) <= 0) return undefined
  return { kind: 'steady', ttftMs: Number(steady[1]), perChunkMs: 1000 / Number(steady[2]) }
}

/** The other half of {@link parsePace}. */
export function formatPace(pace: Pace): string {
  if (pace.kind === 'instant') return 'instant'
  if (pace.kind === 'steady') return `ttft=${pace.ttftMs},tps=${round(1_000 / pace.perChunkMs)}`
  return pace.factor === 1 ? 'original' : `x${pace.factor}`
}

/** Without the last bit that a division there and back may change. */
function round(value: number): number {
  return Number(value.toPrecision(12))
}
