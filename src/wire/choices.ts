/**
 * What streams of chat and of completions have in common: a root that each chunk repeats, and
 * choices, told apart by `index`, that may come interleaved. `merge.ts` says how fields combine.
 */

import type { ChoiceTokens } from '../trajectory/record.ts'
import { errorOf, type StreamAssembler } from './assembler.ts'
import { isObject, objectAt, textAt, type JsonObject } from './json.ts'
import { appendField, createFields, mergeLastField, type Fields } from './merge.ts'
import { TokenCollector, tokensOf } from './tokens.ts'

/** Lists that servers give whole, some of them more than once (vLLM: once per choice). */
const WHOLE_LISTS = new Set(['prompt_token_ids', 'prompt_logprobs'])

/** One choice under construction. */
export interface Choice {
  readonly index: number
  /** Fields beside `index` and what the protocol's own assembler keeps. */
  readonly fields: Fields
  readonly tokens: TokenCollector
}

/** What chat and completions streams share: a root and choices by index. */
export abstract class ChoicesAssembler<C extends Choice> implements StreamAssembler {
  readonly #root = createFields()
  readonly #choices = new Map<number, C>()
  readonly #object: string
  #error: string | null = null
  #events = 0

  /** `object` is the value of the key of that name where the stream names none. */
  constructor(object: string) {
    this.#object = object
  }

  readonly ended = false

  get error(): string | null {
    return this.#error
  }

  add(value: JsonObject): boolean {
    this.#events++
    let visible = false
    for (const key in value) {
      const field = value[key]
      if (key === 'choices' && Array.isArray(field)) {
        this.#root['choices'] ??= []
        for (let at = 0; at < field.length; at++) {
          const choice: unknown = field[at]
          if (isObject(choice) && this.#addChoice(choice, at)) visible = true
        }
      } else if (key !== 'object') {
        mergeLastField(this.#root, key, field)
      } else if (typeof field === 'string') {
        // Kept in its place among the keys: readers look at it early.
        this.#root['object'] = field.endsWith('.chunk') ? field.slice(0, -6) : field
      }
    }
    this.#error ??= errorOf(value)
    return visible
  }

  response(): string | null {
    if (this.#events === 0) return null
    const root: Fields = Object.assign(createFields(), this.#root)
    if (root['choices'] !== undefined) {
      root['object'] ??= this.#object
      root['choices'] = this.#sorted().map((choice) => this.finish(choice))
    }
    return JSON.stringify(root)
  }

  finishReasons(): (string | null)[] {
    return this.#sorted().map((choice) => textAt(choice.fields, 'finish_reason'))
  }

  /** At the root; Groq puts it into `x_groq`, Moonshot into the choice. */
  usage(): unknown {
    return (
      objectAt(this.#root, 'usage') ??
      objectAt(objectAt(this.#root, 'x_groq'), 'usage') ??
      this.#sorted()
        .map((choice) => objectAt(choice.fields, 'usage'))
        .find((usage) => usage !== undefined)
    )
  }

  tokens(): ChoiceTokens[] | null {
    const usage = this.usage()
    return tokensOf(
      this.#sorted().map(tokensOfChoice),
      this.#root,
      isObject(usage) ? usage['completion_tokens'] : undefined,
    )
  }

  engineVersion(): string | null {
    return engineVersionOf(this.#root)
  }

  /** A choice nobody has seen before, with the protocol's own parts. */
  protected abstract createChoice(common: Choice): C

  /** Takes what is new in one choice in; returns whether any of it is visible. */
  protected abstract addDelta(choice: C, value: JsonObject): boolean

  /** The choice as the unary response has it. */
  protected abstract finish(choice: C): Fields

  #addChoice(value: JsonObject, position: number): boolean {
    const index = typeof value['index'] === 'number' ? value['index'] : position
    let choice = this.#choices.get(index)
    if (choice === undefined) {
      choice = this.createChoice({
        index,
        fields: createFields(),
        tokens: new TokenCollector(index),
      })
      this.#choices.set(index, choice)
    }
    choice.tokens.add(value, null)
    return this.addDelta(choice, value)
  }

  #sorted(): C[] {
    return [...this.#choices.values()].sort((a, b) => a.index - b.index)
  }
}

/** Takes a field of a choice in that is neither its index nor its message. */
export function mergeChoiceField(into: Fields, key: string, value: unknown): void {
  if (key === 'logprobs' && isObject(value)) {
    const logprobs = isObject(into[key]) ? (into[key] as Fields) : createFields()
    for (const name in value) mergeChoiceField(logprobs, name, value[name])
    into[key] = logprobs
  } else if (key === 'meta_info' && value !== null) {
    // SGLang gives all of it each time, its lists from the first token on.
    into[key] = value
  } else if (Array.isArray(value) && !WHOLE_LISTS.has(key)) {
    appendField(into, key, value)
  } else {
    mergeLastField(into, key, value)
  }
}

/** The version of the weights: SGLang's `metadata.weight_version`, or the same at the root. */
export function engineVersionOf(root: JsonObject): string | null {
  const version = objectAt(root, 'metadata')?.['weight_version'] ?? root['weight_version']
  return typeof version === 'string' || typeof version === 'number' ? String(version) : null
}

/** SGLang's `meta_info` grows from event to event, so it is read once, at the end. */
function tokensOfChoice({ index, fields, tokens }: Choice): TokenCollector {
  if (fields['meta_info'] === undefined) return tokens
  const collector = new TokenCollector(index)
  collector.add(fields, fields['meta_info'])
  return collector
}
