/** What an option is: the shape of its definition, and the headings they stand under. */
import type { Kind } from './kinds.ts'

/** Headings of the help, in order. */
export const GROUPS = {
  where: 'Where it listens',
  control: 'Control',
  upstream: 'Upstream',
  capacity: 'Capacity',
  capture: 'Transforms and token capture',
  responder: 'Responder',
  recording: 'Recording',
  replay: 'Replay',
  sessions: 'Sessions',
  process: 'Process',
} as const

/** One option. */
export interface OptionDefinition {
  readonly kind: Kind<unknown>
  /** As a user would write it; null when leaving it out means something that `shown` tells. */
  readonly default: string | null
  /** Stands in the default's place in help, where `default` does not speak for itself. */
  readonly shown?: string
  readonly group: keyof typeof GROUPS
  /** What it does, in one line. */
  readonly help: string
  /** Why one would change it, or why the default is what it is. */
  readonly why: string
  /** True for what makes sense on the command line only: not read from YAML or variables. */
  readonly flagOnly?: boolean
}
