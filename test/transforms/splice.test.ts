/** Members of a body are changed in its bytes: whatever is not changed stays what it was. */
import * as fc from 'fast-check'
import t from 'tap'
import { ObjectSplice } from '../../src/transforms/splice.ts'
import { OBJECT } from './json-text.ts'

function spliced(text: string, change: (splice: ObjectSplice) => void): string {
  const splice = ObjectSplice.open(Buffer.from(text))
  if (splice === undefined) return 'none'
  change(splice)
  return splice.bytes().toString()
}

const set = (name: string, value: string) => (splice: ObjectSplice) =>
  splice.set(name, Buffer.from(value))

t.test('O10: a member is added behind the last one, replaced, or taken out', async (t) => {
  const cases: [body: string, change: (splice: ObjectSplice) => void, after: string][] = [
    ['{"a":1}', set('b', 'true'), '{"a":1,"b":true}'],
    ['{}', set('b', 'true'), '{"b":true}'],
    [' { } \n', set('b', 'true'), ' {"b":true } \n'],
    ['{"a" : 1.0 , "b" : -0.0\n}', set('c', '2'), '{"a" : 1.0 , "b" : -0.0,"c":2\n}'],
    ['{"a":1e-05,"b":2}', set('b', '3'), '{"a":1e-05,"b":3}'],
    ['{"a":1,"a":2}', set('a', '3'), '{"a":1,"a":3}'],
    ['{"\\u0061":1}', set('a', '3'), '{"\\u0061":3}'],
    ['{"x":{"a":1}}', set('a', '3'), '{"x":{"a":1},"a":3}'],
    ['{"größe":"😀"}', set('a', '"ß"'), '{"größe":"😀","a":"ß"}'],
    ['{"a":1, "b":2, "c":3}', (s) => s.remove('a'), '{"b":2, "c":3}'],
    ['{"a":1, "b":2, "c":3}', (s) => s.remove('b'), '{"a":1, "c":3}'],
    ['{"a":1, "b":2, "c":3 }', (s) => s.remove('c'), '{"a":1, "b":2 }'],
    ['{"a":1, "a":2, "c":3}', (s) => s.remove('a'), '{"c":3}'],
    ['{"c":1, "a":2, "a":3}', (s) => s.remove('a'), '{"c":1}'],
    ['{ "a":1 }', (s) => s.remove('a'), '{  }'],
    ['{"a":1,"b":2}', (s) => s.rename('a', 'c'), '{"c":1,"b":2}'],
    ['{"a":1,"b":2,"a":3}', (s) => s.rename('a', 'c'), '{"b":2,"c":3}'],
    ['{"a":1}', (s) => s.rename('b', 'c'), '{"a":1}'],
  ]
  for (const [body, change, after] of cases) t.equal(spliced(body, change), after, body)
  const removed = (s: ObjectSplice): void => {
    s.remove('a')
    s.set('a', Buffer.from('2'))
  }
  t.equal(spliced('{"a":1}', removed), '{"a":2}')
})

t.test('O10: what is no JSON object is none to splice', async (t) => {
  const bodies = [
    '',
    'x',
    '[]',
    '"{}"',
    '{"a":1',
    '{"a"1}',
    '{"a":1}}',
    '{"a":1} x',
    '{a:1}',
    'null',
  ]
  for (const body of bodies) t.equal(ObjectSplice.open(Buffer.from(body)), undefined, body)
})

t.test('O10: for any object, what is sent less what was put in is the body', async (t) => {
  fc.assert(
    fc.property(OBJECT, fc.constantFrom('new', 'other'), (text, name) => {
      const splice = ObjectSplice.open(Buffer.from(text))!
      fc.pre(splice.get(name) === undefined)
      splice.set(name, Buffer.from('[1]'))
      const sent = splice.bytes().toString()
      const parsed = JSON.parse(text.replace(/^\ufeff/, '')) as Record<string, unknown>
      const addition = `${Object.keys(parsed).length === 0 ? '' : ','}"${name}":[1]`
      const at = sent.lastIndexOf(addition)
      t.equal(sent.slice(0, at) + sent.slice(at + addition.length), text)
      const { [name]: put, ...rest } = JSON.parse(sent.replace(/^\ufeff/, '')) as typeof parsed
      t.strictSame([put, JSON.stringify(rest)], [[1], JSON.stringify(parsed)])
    }),
  )
})

t.test(
  'O10: for any object and name, what counts is read and replaced as a parser would',
  async (t) => {
    fc.assert(
      fc.property(OBJECT, fc.string({ maxLength: 3 }), fc.nat(), (text, other, pick) => {
        const plain = text.replace(/^\ufeff/, '')
        const parsed = JSON.parse(plain) as Record<string, unknown>
        const keys = [...Object.keys(parsed), other]
        const name = keys[pick % keys.length]!
        fc.pre(name !== '__proto__' && !/[^\u0020-\u007e]|\\/.test(name))
        const splice = ObjectSplice.open(Buffer.from(text))!
        const value = splice.get(name)?.toString()
        t.strictSame(
          value && JSON.parse(value),
          Object.hasOwn(parsed, name) ? parsed[name] : undefined,
        )
        splice.set(name, Buffer.from('"new"'))
        const sent = JSON.parse(
          splice
            .bytes()
            .toString()
            .replace(/^\ufeff/, ''),
        ) as typeof parsed
        t.strictSame(sent, { ...parsed, [name]: 'new' })
      }),
    )
  },
)
