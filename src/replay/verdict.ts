/**
 * How a replay went, counted over all its runs: what was served and how, what could not be, and
 * which records nobody asked for.
 */

/** Counts of compared answers. */
export interface Verified {
  /** Neither status nor shape nor text differs. */
  readonly same: number
  readonly different: number
  /** Nothing was recorded to compare them with. */
  readonly alone: number
}

/** Counts of a replay. Requests, but for `unused`, which are records. */
export interface Verdict {
  /** Served because the very bytes were recorded. */
  readonly servedExact: number
  /** Served because the meaning was, after RFC 8785 and the ignore rules. */
  readonly servedByRule: number
  readonly missed: number
  readonly exhausted: number
  /** Clients that left before the end of their answer. */
  readonly aborted: number
  /** Chosen records that there is no answer of. */
  readonly unusable: number
  /** Served in sequence although the request names another model than was recorded. */
  readonly modelMismatch: number
  /** Forwarded: in `hybrid` what was not recorded, in `verify` all. */
  readonly live: number
  /** Generation records that could be served, and that no run has used. */
  readonly unused: number
  /** Mode `verify` only: how live answers compare with the recorded ones. */
  readonly verified: Verified | undefined
}

/** What may make a replay a failure. */
export const FAIL_ON = ['miss', 'exhausted', 'inexact', 'unused', 'live', 'differs'] as const

/** One of {@link FAIL_ON}. */
export type FailOn = (typeof FAIL_ON)[number]

/** Which of the named conditions hold. */
export function failures(verdict: Verdict, failOn: readonly FailOn[]): FailOn[] {
  const counts: Record<FailOn, number> = {
    miss: verdict.missed,
    exhausted: verdict.exhausted,
    inexact: verdict.servedByRule,
    unused: verdict.unused,
    live: verdict.live,
    differs: verdict.verified?.different ?? 0,
  }
  return failOn.filter((condition) => counts[condition] > 0)
}

/** The verdict as a table for people. */
export function formatVerdict(verdict: Verdict): string {
  const rows: [string, number][] = [
    ['served exact', verdict.servedExact],
    ['served by rule', verdict.servedByRule],
    ['missed', verdict.missed],
    ['exhausted', verdict.exhausted],
    ['aborted', verdict.aborted],
    ['unusable', verdict.unusable],
    ['model mismatch', verdict.modelMismatch],
    ['live', verdict.live],
    ['unused records', verdict.unused],
  ]
  if (verdict.verified !== undefined) {
    const { same, different, alone } = verdict.verified
    rows.push(['verified same', same], ['differing', different], ['not recorded', alone])
  }
  return rows.map(([name, count]) => `${name.padEnd(16)}${String(count).padStart(8)}`).join('\n')
}
