/** The end of a stream that is too large to be read is found by the beginnings of its lines. */
import t from 'tap'
import type { Protocol } from '../../src/trajectory/record.ts'
import { hasUnreadEnd } from '../../src/trajectory/unread-end.ts'

const LONG = 'x'.repeat(300)
const RESPONSE = `{"type": "response.completed","response":{"text":"${LONG}"}}`

const has = (protocol: Protocol, text: string): boolean => hasUnreadEnd(protocol, Buffer.from(text))

/** Streams, and the first length at which their end is there. */
const WHOLE: readonly [Protocol, text: string, behind: string][] = [
  ['openai.chat', `data: {"a":"${LONG}"}\n\ndata: [DONE]`, '\n\n'],
  ['openai.completions', `: hi\n\ndata:[DONE]`, '\n\n: bye\n\n'],
  ['openai.chat', '\ufeffdata: [DONE]', '\n\n'],
  ['anthropic.messages', `event: ping\ndata: {}\n\nevent: message_stop\ndata: {}\n\n`, ''],
  ['anthropic.messages', `data: {"type":"message_stop"}\n\n`, 'data: {}\n\n'],
  ['openai.responses', `event: response.completed\ndata: ${RESPONSE}\n\n`, ''],
  ['openai.responses', `data: ${RESPONSE}\n\n`, ''],
  ['openai.responses', `event: response.failed\ndata: ${LONG}\n\n`, ''],
]

t.test('R18: an end is there as soon as it is whole, whatever ends its lines', async (t) => {
  for (const lineEnd of ['\n', '\r\n', '\r']) {
    for (const [protocol, text, behind] of WHOLE) {
      const [begun, rest] = [text, behind].map((part) =>
        Buffer.from(part.replaceAll('\n', lineEnd)),
      )
      // The LF of a last CRLF may be still to come.
      const least = begun!.length - (lineEnd === '\r\n' && text.endsWith('\n') ? 1 : 0)
      const all = Buffer.concat([begun!, rest!])
      for (let length = 0; length <= all.length; length++) {
        const isThere = hasUnreadEnd(protocol, all.subarray(0, length))
        if (isThere !== length >= least) {
          t.fail(`${protocol} ${JSON.stringify(text.slice(-40))} at ${length} of ${all.length}`)
        }
      }
    }
  }
})

t.test('R18: what only looks like an end is none', async (t) => {
  t.notOk(has('openai.chat', 'data: a\ndata: [DONE]\n\n'), 'a line of other data')
  t.notOk(has('openai.chat', 'data: {"a":"[DONE]"}\n\n'))
  t.notOk(has('openai.chat', 'x data: [DONE]\n\n'))
  t.notOk(has('openai.chat', 'event: message_stop\ndata: {}\n\n'), 'of another protocol')
  t.notOk(has('anthropic.messages', 'data: {"text":"message_stop"}\n\n'))
  t.notOk(has('anthropic.messages', 'event: message_stop\n\n'), 'an event without data')
  t.notOk(has('anthropic.messages', 'event: message_stopped\ndata: {}\n\n'))
  t.notOk(has('openai.responses', `data: {"type":"response.output_text.done"}\n\n`))
})
