// Header pairs on their way through: what a hop drops, and what it may not drop. Case, order
// and duplicates of all else stay.
import t from 'tap'
import {
  apiKeyHeader,
  dropQueryKey,
  headerValue,
  requestHeaders,
  responseHeaders,
} from '../../src/lane/headers.ts'

const KEY = { name: 'Authorization', value: 'Bearer ours' }

t.test(
  'R5: end-to-end fields pass with case, order and duplicates; hop-by-hop ones stay',
  async (t) => {
    const raw = [
      ['Host', 'h', 'X-A', '1', 'x-a', '2', 'Connection', 'keep-alive', 'Keep-Alive', 't=5'],
      ['Proxy-Connection', 'x', 'TE', 'trailers', 'Transfer-Encoding', 'chunked', 'Upgrade', 'x'],
      ['Expect', '100-continue', 'Authorization', 'Bearer theirs', 'Trailer', 'X-Sum'],
      ['x-rolltape-run', 'r', 'X-RollTape-Tags', 'a=b', 'X-Empty', '', 'Via', '1.1 x'],
    ].flat()
    t.strictSame(requestHeaders(raw, undefined), {
      flat: [
        ['X-A', '1', 'x-a', '2', 'Authorization', 'Bearer theirs'],
        ['X-Empty', '', 'Via', '1.1 x'],
      ].flat(),
      bodyBytes: -1,
      plainChunks: true,
    })
  },
)

t.test('the length of a body is what the client said, none without a word', async (t) => {
  for (const [raw, bodyBytes, plainChunks] of [
    [['Content-Length', '12'], 12, true],
    [['content-length', '0'], 0, true],
    [['TRANSFER-ENCODING', 'Chunked'], -1, true],
    [['TRANSFER-ENCODING', 'gzip, chunked'], -1, false],
    [[], 0, true],
  ] as const) {
    t.strictSame(requestHeaders(raw, undefined), { flat: [], bodyBytes, plainChunks })
  }
})

t.test('R5: fields named by Connection stay behind, but for those a message needs', async (t) => {
  const raw = [
    ['Connection', 'close, X-Hop ,authorization,Host', 'X-Hop', 'gone', 'X-Stays', '1'],
    ['connection', 'x-other,content-type,content-encoding,content-length', 'x-other', 'gone'],
    ['Authorization', 'a', 'Content-Type', 'b', 'Content-Encoding', 'c', 'Content-Length', '3'],
    ['x-api-key', 'k', 'Close', 'gone too'],
  ].flat()
  const kept = [
    ['X-Stays', '1', 'Authorization', 'a', 'Content-Type', 'b', 'Content-Encoding', 'c'],
    ['x-api-key', 'k'],
  ].flat()
  t.strictSame(requestHeaders(raw, undefined), { flat: kept, bodyBytes: 3, plainChunks: true })
  t.strictSame(
    responseHeaders(raw),
    [
      ['X-Stays', '1', 'Authorization', 'a', 'Content-Type', 'b', 'Content-Encoding', 'c'],
      ['Content-Length', '3', 'x-api-key', 'k'],
    ].flat(),
  )
})

t.test('R5: with a key of our own the credentials of the client are dropped', async (t) => {
  const raw = [
    ['authorization', 'x', 'X-Api-Key', 'x', 'x-goog-api-key', 'x', 'Cookie', 'x'],
    ['Accept', '*/*'],
  ].flat()
  t.strictSame(requestHeaders(raw, KEY).flat, ['Accept', '*/*', 'Authorization', 'Bearer ours'])
})

t.test('R5: the key goes into the header that the path wants', async (t) => {
  for (const [path, name, value] of [
    ['/v1/chat/completions', 'Authorization', 'Bearer k'],
    ['/v1/messages', 'x-api-key', 'k'],
    ['/v1/messages/count_tokens', 'x-api-key', 'k'],
    ['/v1beta/models/g:generateContent', 'x-goog-api-key', 'k'],
    ['/v1beta/models/g:streamGenerateContent', 'x-goog-api-key', 'k'],
    ['/v1/models', 'Authorization', 'Bearer k'],
  ] as const) {
    t.strictSame(apiKeyHeader(path, 'k'), { name, value }, path)
  }
})

t.test('R8: response fields as bytes come out as the text they are in Latin-1', async (t) => {
  const raw = [
    'Set-Cookie',
    'a',
    'set-cookie',
    'caf\u00e9',
    'Transfer-Encoding',
    'chunked',
    'X',
    '',
  ]
  t.strictSame(responseHeaders(raw.map((part) => Buffer.from(part, 'latin1'))), [
    'Set-Cookie',
    'a',
    'set-cookie',
    'caf\u00e9',
    'X',
    '',
  ])
})

t.test('the first value of a name, in whatever case', async (t) => {
  const flat = ['X-A', '1', 'x-a', '2', 'X-AB', '3']
  t.equal(headerValue(flat, 'x-a'), '1')
  t.equal(headerValue(flat, 'x-ab'), '3')
  t.equal(headerValue(flat, 'x-b'), undefined)
  t.equal(headerValue(['x-a'], 'x-a'), undefined)
})

t.test(
  'R5: the client key in a query is dropped, all else of the query stays as it is',
  async (t) => {
    for (const [target, expected] of [
      ['/x', '/x'],
      ['/x?key=s', '/x'],
      ['/x?key=s&alt=sse', '/x?alt=sse'],
      ['/x?alt=sse&key=s', '/x?alt=sse'],
      ['/x?a=1&key=s&b=%20+', '/x?a=1&b=%20+'],
      ['/x?key=1&key=2&a=3&key=4', '/x?a=3'],
      ['/x?monkey=1', '/x?monkey=1'],
    ] as const) {
      t.equal(dropQueryKey(target), expected, target)
    }
  },
)
