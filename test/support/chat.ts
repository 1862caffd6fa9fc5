/** Requests to the embedded inference server, and what came back, to the byte. */
import type { Scenario } from '../../src/inference/scenario.ts'

/** An answer's body and what of its head matters. */
export interface Got {
  readonly status: number
  readonly type: string | null
  readonly length: string | null
  readonly text: string
}

/** Asks with `fetch`, which takes encoded answers where it may. */
export async function askFor(
  url: string,
  body: object | string,
  { path = '/v1/chat/completions', headers = {} }: Asked = {},
): Promise<Got> {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const response = await fetch(`${url}${path}`, { method: 'POST', body: text, headers })
  const { status } = response
  const [type, length] = ['content-type', 'content-length'].map((name) =>
    response.headers.get(name),
  ) as [string | null, string | null]
  return { status, type, length, text: await response.text() }
}

/** Where and how. */
export interface Asked {
  readonly path?: string
  readonly headers?: Record<string, string>
}

/** A chat request. */
export function chat(content: string, more: object = {}, scenario: Scenario = {}): object {
  return { model: 'demo', messages: [{ role: 'user', content }], ...more, scenario }
}

/** Data of every event of a stream, parsed; the mark as it is. */
export function eventsOf(text: string): unknown[] {
  return text
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => event.replace(/^data: /, ''))
    .map((data) => (data === '[DONE]' ? data : (JSON.parse(data) as unknown)))
}
