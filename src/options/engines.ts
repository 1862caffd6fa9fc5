/** Which engine an upstream is: one name for all of them, or names by base URL. */
import { ENGINES } from '../transforms/profiles.ts'
import type { Engine } from '../transforms/profiles.ts'
import { Refusal, baseUrl, choice } from './kinds.ts'
import type { Kind } from './kinds.ts'

const engine = choice(ENGINES, 'vllm')

/** Stands for all upstreams that are not named. */
const ALL = 'default'

/** `vllm`; or `http://a:8000=vllm`, several times; in YAML a name, or a map of base URLs to names. */
export const engines: Kind<ReadonlyMap<string, Engine>> = {
  placeholder: `<${ENGINES.join('|')}|url=engine>`,
  expected: `one of ${ENGINES.join(', ')}, or base URLs with one of them each`,
  example: 'vllm',
  repeatable: true,
  parse(value, environment) {
    const parsed = new Map<string, Engine>()
    for (const [base, name] of entriesOf(value)) {
      const key = base === ALL ? ALL : baseUrl.parse(base, environment)
      parsed.set(key, engine.parse(name, environment))
    }
    return parsed
  },
}

function entriesOf(value: unknown): (readonly [string, unknown])[] {
  if (Array.isArray(value)) return value.flatMap(entriesOf)
  if (typeof value === 'string') {
    return value.split(',').map((entry) => {
      const at = entry.lastIndexOf('=')
      return at < 0 ? [ALL, entry.trim()] : [entry.slice(0, at).trim(), entry.slice(at + 1).trim()]
    })
  }
  if (value instanceof Map) return [...(value as Map<string, unknown>)]
  if (typeof value !== 'object' || value === null) throw new Refusal()
  return Object.entries(value)
}
