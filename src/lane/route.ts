/**
 * Where a request goes: rules by model, several base URLs by rendezvous hash, and the joining of a
 * base with the request's path. Pure.
 */
import { RolltapeError } from '../errors.ts'
import { ROUTED_SESSIONS_MAX } from '../limits.ts'
import { hash64 } from '../hash.ts'
import { queueOf } from '../responder/address.ts'
import type { Asker } from '../responder/hop.ts'
import { topLevelString } from './body-scan.ts'

/** The part of the configuration that routing needs. */
export interface Routes {
  readonly proxyBaseUrl: readonly string[]
  readonly proxyRules: ReadonlyMap<string, string>
}

/** An upstream to send to. */
export interface Target {
  /** Base URL as configured, without a trailing `/`. */
  readonly base: string
  /** `http://host:port`; of a responder its base. */
  readonly origin: string
  /** Path with query to ask for. */
  readonly path: string
  /** Whose request it is; only where a responder is told. */
  readonly asker?: Asker
}

/** True when the model in the body decides where to go, so that the whole body must be there. */
export function needsModel(routes: Routes): boolean {
  return routes.proxyBaseUrl.length === 0
}

/**
 * Chooses the upstream: `proxyBaseUrl` for every model, else the model's rule, else `default`.
 * With several base URLs a session always gets the same one. `modelOverride` is the model that
 * is asked for, whatever the body says.
 *
 * @throws RolltapeError `bad_model` when a rule needs a model that the body does not name,
 *   `no_route` when no rule fits.
 */
export function chooseBase(
  routes: Routes,
  session: string,
  body: Buffer | undefined,
  modelOverride: string | null = null,
): string {
  const [first] = routes.proxyBaseUrl
  if (first !== undefined) {
    return routes.proxyBaseUrl.length === 1 ? first : chosen(routes.proxyBaseUrl, session)
  }
  const fallback = routes.proxyRules.get('default')
  const onlyDefault = fallback !== undefined && routes.proxyRules.size === 1
  if (onlyDefault) return fallback
  const isEmpty = body === undefined || body.length === 0
  const model = modelOverride ?? (isEmpty ? undefined : topLevelString(body, 'model'))
  if (model === null) {
    throw new RolltapeError(
      'bad_model',
      'the request body is not a JSON object, and the configured proxy_rules choose by its ' +
        '"model"; send a JSON object, or configure proxy_base_url',
    )
  }
  const rule = (model === undefined ? undefined : routes.proxyRules.get(model)) ?? fallback
  if (rule !== undefined) return rule
  throw new RolltapeError(
    'no_route',
    model === undefined
      ? 'the request names no "model" and proxy_rules has no default: add a default rule'
      : `no rule in proxy_rules for model "${model}" and no default: add one of them`,
  )
}

/**
 * Joins a base and a request target. A base without a version segment at its end: the path is
 * appended whole. A base that ends in one (`/v1`, `/v4`, `/v1beta/openai`): a leading `/v1` of the
 * path is replaced by the base's path.
 */
export function joinTarget(base: string, target: string): Target {
  const { origin, path, versioned } = splitBase(base)
  const leading = versioned && /^\/v1(?=[/?#]|$)/.test(target)
  return { base, origin, path: path + (leading ? target.slice(3) : target) }
}

interface Base {
  readonly origin: string
  readonly path: string
  /** Its path ends in a version segment. */
  readonly versioned: boolean
}

const bases = new Map<string, Base>()

function splitBase(base: string): Base {
  const known = bases.get(base)
  if (known) return known
  const isServer = queueOf(base) === undefined
  const { origin, pathname } = isServer ? new URL(base) : { origin: base, pathname: '' }
  const path = pathname.replace(/\/+$/, '')
  const versioned = /\/v\d+[a-z0-9]*(?:\/openai)?$/i.test(path)
  const split = { origin, path, versioned }
  bases.set(base, split)
  return split
}

/** What was chosen for the sessions of late; weighing 16 base URLs costs 3 µs. */
const routed = new WeakMap<readonly string[], Map<string, string>>()

function chosen(candidates: readonly string[], session: string): string {
  let known = routed.get(candidates)
  if (known === undefined) routed.set(candidates, (known = new Map()))
  let base = known.get(session)
  if (base === undefined) {
    base = rendezvous(candidates, session)
    if (known.size >= ROUTED_SESSIONS_MAX) known.clear()
    known.set(session, base)
  }
  return base
}

/** Highest random weight: every session keeps its upstream when others come or go. */
function rendezvous(candidates: readonly string[], session: string): string {
  let best = ''
  let bestWeight = -1
  for (const candidate of candidates) {
    const [low, high] = hash64(`${candidate}\n${session}`)
    const weight = (high >>> 0) * 2 ** 21 + (low >>> 11)
    if (weight > bestWeight) {
      best = candidate
      bestWeight = weight
    }
  }
  return best
}
