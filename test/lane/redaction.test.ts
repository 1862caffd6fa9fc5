// What of headers and queries never reaches the tape: what always does not, and what a configuration
// adds to it.
import t from 'tap'
import { REDACTION, Redaction, redactionOf } from '../../src/lane/redaction.ts'

const always = new Redaction({ redactHeaders: [], redactQuery: [] })

t.test('M27: values of credentials never reach the tape, names and order do', async (t) => {
  const names = ['Authorization', 'PROXY-authorization', 'x-api-key', 'X-Goog-Api-Key', 'api-key']
  const flat = [...names, 'Cookie', 'Set-Cookie', 'X-Other'].flatMap((name) => [name, 'secret'])
  const redacted = always.headers(flat)
  t.strictSame(
    redacted,
    [...names, 'Cookie', 'Set-Cookie', 'X-Other'].flatMap((name) => {
      return [name, name === 'X-Other' ? 'secret' : REDACTION]
    }),
  )
  t.equal(flat[1], 'secret', 'what is forwarded stays as it is')
  const plain = ['X-Other', 'x']
  t.equal(always.headers(plain), plain, 'nothing to redact costs no copy')
})

t.test('M27: keys in a query never reach the tape', async (t) => {
  for (const [target, expected] of [
    ['/v1/x', '/v1/x'],
    ['/v1/key=a', '/v1/key=a'],
    ['/x?key=s&alt=sse', '/x?key=[redacted]&alt=sse'],
    [
      '/x?alt=sse&KEY=s&Api_Key=t&api-key=u#f',
      '/x?alt=sse&KEY=[redacted]&Api_Key=[redacted]&api-key=[redacted]#f',
    ],
    ['/x?token=&access_token=a%20b', '/x?token=[redacted]&access_token=[redacted]'],
    ['/x?monkey=1&keys=2&max_tokens=3', '/x?monkey=1&keys=2&max_tokens=3'],
  ] as const) {
    t.equal(always.target(target), expected, target)
  }
})

t.test('M27: what a configuration names is added to what always counts', async (t) => {
  const names = { redactHeaders: ['x-team-key'], redactQuery: ['tenant.key', 'a|b'] }
  const own = redactionOf(names)
  t.equal(redactionOf(names), own, 'made once')
  t.strictSame(own.headers(['X-Team-Key', 's', 'Authorization', 's', 'X-Team', 'stays']), [
    'X-Team-Key',
    REDACTION,
    'Authorization',
    REDACTION,
    'X-Team',
    'stays',
  ])
  for (const [target, expected] of [
    ['/x?Tenant.Key=s&tenantxkey=stays', '/x?Tenant.Key=[redacted]&tenantxkey=stays'],
    ['/x?a|b=s&a=1&b=2&key=s', '/x?a|b=[redacted]&a=1&b=2&key=[redacted]'],
  ] as const) {
    t.equal(own.target(target), expected)
  }
})

t.test('M27: a name that is percent-encoded is the same name', async (t) => {
  for (const [target, expected] of [
    ['/x?%6bey=s&q=%20', '/x?%6bey=[redacted]&q=%20'],
    ['/x?q=1&ac%63ess%5Ftoken=s?t', '/x?q=1&ac%63ess%5Ftoken=[redacted]'],
    ['/x?%zz=1&key=s%', '/x?%zz=1&key=[redacted]'],
    ['/x?q=a?key=s', '/x?q=a?key=[redacted]'],
  ] as const) {
    t.equal(always.target(target), expected)
  }
  const long = `/x?${'%'.repeat(120_000)}`
  t.equal(always.target(long), long, 'and a long one that is none ends')
})
