/**
 * The modes, and what each of them does with a request. Process-wide, with overrides per session;
 * what a lane makes of them stands in `lane/serving.ts`.
 */

/** All modes, in the order that the tape numbers them. */
export const MODES = ['passthrough', 'record', 'replay', 'hybrid', 'verify'] as const

/** What is done with a request. */
export type Mode = (typeof MODES)[number]

/** What `hybrid` does with a request that the recording has no answer to. */
export type OnMiss = 'error' | 'passthrough' | 'record'

/** True for a mode that may ask an upstream. */
export function forwards(mode: Mode): boolean {
  return mode !== 'replay'
}

/** True for a mode that looks requests up in a recording. */
export function replays(mode: Mode): boolean {
  return mode === 'replay' || mode === 'hybrid' || mode === 'verify'
}

/** True for a mode whose exchanges go to the tape; `hybrid` records what it forwards. */
export function records(mode: Mode, onMiss: OnMiss): boolean {
  return mode === 'record' || mode === 'verify' || (mode === 'hybrid' && onMiss === 'record')
}

/** The modes that a configuration asks for: the process's and those of single sessions. */
export function modesOf(config: {
  readonly mode: Mode
  readonly sessionOverrides: ReadonlyMap<string, { readonly mode?: Mode }>
}): Mode[] {
  const own = [...config.sessionOverrides.values()].map(({ mode }) => mode ?? config.mode)
  return [...new Set([config.mode, ...own])]
}
