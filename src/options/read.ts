/**
 * Gathers option values from flags, variables, a YAML file and a library user's object, parses
 * each by its kind, and says precisely which value of which source is wrong.
 *
 * Flags beat a library user's options, those beat variables, those the file, those the defaults.
 */
import { readFileSync } from 'node:fs'

import { parse as parseYaml } from 'yaml'

import { errorText, RolltapeError } from '../errors.ts'
import {
  definitionOf,
  names,
  OPTION_KEYS,
  OPTIONS,
  type OptionKey,
  type OptionValues,
} from './definitions.ts'
import { Refusal } from './kinds.ts'
import type { Environment } from './secret.ts'
import { nearest } from './suggest.ts'

/** Where a value came from. */
export type Origin = 'flag' | 'env' | 'file' | 'option' | 'default'

/** Everything that may hold options; all parts may be left out. */
export interface OptionSources {
  /** By key, as commander gives them; a repeated flag as a list. */
  readonly flags?: Readonly<Record<string, unknown>>
  /** Variables of the process; only `ROLLTAPE_*` are options. */
  readonly env?: Environment
  /** Path of a YAML file; `configFile` among flags or options does the same. */
  readonly file?: string
  /** What a library user passes. */
  readonly options?: Readonly<Record<string, unknown>>
}

/** All values parsed, each with its origin. */
export interface ReadOptions {
  readonly values: OptionValues
  readonly origins: Readonly<Record<OptionKey, Origin>>
}

interface Given {
  readonly value: unknown
  readonly origin: Origin
  /** How an error names it, e.g. `request_timeout in rolltape.yaml`. */
  readonly label: string
}

/** Reads all sources. Throws `bad_option` or `config_unreadable`. */
export function readOptions(sources: OptionSources): ReadOptions {
  const given = new Map<OptionKey, Given>()
  const file = sources.file ?? configFileOf(sources)
  if (file !== undefined) gatherFile(file, given)
  if (sources.env !== undefined) gatherEnvironment(sources.env, given)
  gatherKeys(sources.options, 'option', given)
  gatherKeys(sources.flags, 'flag', given)
  if (file !== undefined && !given.has('configFile')) {
    given.set('configFile', { value: file, origin: 'option', label: 'configFile' })
  }
  const environment = sources.env ?? process.env
  const values: Record<string, unknown> = {}
  const origins: Record<string, Origin> = {}
  for (const key of OPTION_KEYS) {
    const found = given.get(key)
    origins[key] = found?.origin ?? 'default'
    values[key] =
      found === undefined ? defaultOf(key, environment) : parseGiven(key, found, environment)
  }
  return {
    values: values as unknown as OptionValues,
    origins: Object.freeze(origins) as Record<OptionKey, Origin>,
  }
}

function configFileOf(sources: OptionSources): string | undefined {
  const file = sources.flags?.['configFile'] ?? sources.options?.['configFile']
  try {
    return definitionOf('configFile').kind.parse(file, {}) as string
  } catch {
    // What is no path is refused by name, with the other options.
    return undefined
  }
}

function defaultOf(key: OptionKey, environment: Environment): unknown {
  const definition = definitionOf(key)
  return definition.default === null ? null : definition.kind.parse(definition.default, environment)
}

function gatherFile(file: string, given: Map<OptionKey, Given>): void {
  const content = parseFile(file)
  const known = OPTION_KEYS.filter((key) => definitionOf(key).flagOnly !== true)
  const byYaml = new Map(known.map((key) => [names(key).yaml, key]))
  for (const [name, value] of Object.entries(content)) {
    const key = byYaml.get(name)
    if (key === undefined) throw unknownName(`${name} in ${file}`, name, [...byYaml.keys()])
    if (value !== null && value !== undefined) {
      given.set(key, { value, origin: 'file', label: `${name} in ${file}` })
    }
  }
}

function parseFile(file: string): Readonly<Record<string, unknown>> {
  let content: unknown
  try {
    content = parseYaml(readFileSync(file, 'utf8'))
  } catch (cause) {
    const reason = errorText(cause).split('\n', 1)[0]?.replace(/:$/, '') ?? ''
    throw new RolltapeError(
      'config_unreadable',
      `configuration ${file} cannot be read: ${reason}`,
      {
        cause,
        hint: 'give a readable YAML file with --config-file, or leave it out',
      },
    )
  }
  if (content === null || content === undefined) return {}
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new RolltapeError('config_unreadable', `configuration ${file} is not a map of options`, {
      hint: 'write one `key: value` per line, such as `port: 8080`',
    })
  }
  return content as Record<string, unknown>
}

function gatherEnvironment(env: Environment, given: Map<OptionKey, Given>): void {
  const known = OPTION_KEYS.filter((key) => definitionOf(key).flagOnly !== true)
  const byName = new Map(known.map((key) => [names(key).env, key]))
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('ROLLTAPE_') || value === undefined || value === '') continue
    const key = byName.get(name)
    if (key !== undefined) given.set(key, { value, origin: 'env', label: name })
    // Others may own ROLLTAPE_ variables too (Kubernetes makes some for a service of that name):
    // only what looks like a slip of the pen is refused.
    else if (nearest(name.slice(9), known.map(yamlName)) !== undefined) {
      throw unknownName(name, name, [...byName.keys()])
    }
  }
}

function gatherKeys(
  source: Readonly<Record<string, unknown>> | undefined,
  origin: 'flag' | 'option',
  given: Map<OptionKey, Given>,
): void {
  for (const [key, value] of Object.entries(source ?? {})) {
    const shown = origin === 'flag' ? names(key).flag : key
    if (!isOptionKey(key)) {
      const known = origin === 'flag' ? OPTION_KEYS.map((name) => names(name).flag) : OPTION_KEYS
      throw unknownName(shown, shown, known)
    }
    if (value !== undefined && value !== null) given.set(key, { value, origin, label: shown })
  }
}

function yamlName(key: OptionKey): string {
  return names(key).yaml
}

function unknownName(label: string, name: string, known: readonly string[]): RolltapeError {
  const suggestion = nearest(name, known)
  return new RolltapeError(
    'bad_option',
    `${label}: no such option${suggestion === undefined ? '' : `, did you mean ${suggestion}?`}`,
    { hint: '`rolltape serve --help` lists all options' },
  )
}

function parseGiven(key: OptionKey, given: Given, environment: Environment): unknown {
  const { kind } = definitionOf(key)
  try {
    return kind.parse(given.value, environment)
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal
    const met = kind.hidden === true ? '' : `${show(given.value)} `
    const reason =
      refusal.message === ''
        ? `${met}is not ${kind.expected}; for example ${kind.example}`
        : refusal.message
    const kubernetes = given.origin === 'env' && String(given.value).startsWith('tcp://')
    const hint = kubernetes
      ? 'Kubernetes sets this for a service of that name: set enableServiceLinks: false, or unset it'
      : refusal.hint
    throw new RolltapeError(
      'bad_option',
      `${given.label}: ${reason}`,
      hint === undefined ? {} : { hint },
    )
  }
}

/** A value as an error shows it: one line, at most 80 characters. */
function show(value: unknown): string {
  const shown = typeof value === 'string' ? `'${value}'` : (JSON.stringify(value) ?? String(value))
  const line = shown.replace(/\s+/g, ' ')
  return line.length <= 80 ? line : `${line.slice(0, 79)}…`
}

function isOptionKey(key: string): key is OptionKey {
  return Object.hasOwn(OPTIONS, key)
}
