// Where a request goes, and what it asks for there.
import t from 'tap'
import { ROUTED_SESSIONS_MAX } from '../../src/limits.ts'
import { chooseBase, joinTarget, needsModel } from '../../src/lane/route.ts'
import type { Routes } from '../../src/lane/route.ts'

function routes(proxyBaseUrl: string[], rules: Record<string, string> = {}): Routes {
  return { proxyBaseUrl, proxyRules: new Map(Object.entries(rules)) }
}

const body = (model: unknown): Buffer => Buffer.from(JSON.stringify({ messages: [], model }))

t.test(
  'R6: the base URL is for every model, then the rule of the model, then default',
  async (t) => {
    const rules = { m: 'http://m', default: 'http://d' }
    for (const [given, model, expected] of [
      [routes(['http://all'], rules), 'm', 'http://all'],
      [routes([], rules), 'm', 'http://m'],
      [routes([], rules), 'other', 'http://d'],
      [routes([], rules), 7, 'http://d'],
      [routes([], { m: 'http://m' }), 'm', 'http://m'],
    ] as const) {
      t.equal(chooseBase(given, 's', body(model)), expected)
    }
    t.equal(chooseBase(routes([], rules), 's', Buffer.alloc(0)), 'http://d', 'no body')
    t.equal(chooseBase(routes([], rules), 's', undefined), 'http://d')
    t.strictSame([needsModel(routes(['http://all'])), needsModel(routes([], rules))], [false, true])
  },
)

t.test('R6: no rule for a model is told with its name, a body without one too', async (t) => {
  const only = routes([], { m: 'http://m' })
  t.throws(() => chooseBase(only, 's', body('other')), {
    code: 'no_route',
    message: 'no rule in proxy_rules for model "other" and no default: add one of them',
  })
  t.throws(() => chooseBase(only, 's', body(undefined)), {
    code: 'no_route',
    message: /names no "model"/,
  })
  t.throws(() => chooseBase(only, 's', Buffer.alloc(0)), { code: 'no_route' })
})

t.test('R2: only a rule that needs the model judges the body', async (t) => {
  const broken = Buffer.from('{"model"')
  t.throws(() => chooseBase(routes([], { m: 'http://m', default: 'http://d' }), 's', broken), {
    code: 'bad_model',
  })
  t.equal(chooseBase(routes([], { default: 'http://d' }), 's', broken), 'http://d')
  t.equal(chooseBase(routes(['http://all'], { m: 'http://m' }), 's', broken), 'http://all')
})

t.test('a session keeps its upstream, also when more are known than are remembered', async (t) => {
  const some = routes(['http://a', 'http://b', 'http://c'], {})
  const of = (i: number): string => chooseBase(some, `s${i}`, undefined)
  const first = Array.from({ length: ROUTED_SESSIONS_MAX + 1 }, (_, i) => of(i))
  t.strictSame([...new Set(first)].sort(), ['http://a', 'http://b', 'http://c'])
  t.ok(first.every((base, i) => of(i) === base))
  const fewer = routes(['http://a', 'http://c'], {})
  const moved = first.filter((base, i) => base !== chooseBase(fewer, `s${i}`, undefined))
  t.ok(
    moved.length > 0 && moved.every((base) => base === 'http://b'),
    'others stay where they were',
  )
})

t.test('R7 O12: how base and target are joined', async (t) => {
  const cases: [base: string, target: string, path: string][] = [
    ['http://h', '/v1/chat/completions', '/v1/chat/completions'],
    ['http://h/', '/v1/chat/completions', '/v1/chat/completions'],
    ['http://h/v1', '/v1/chat/completions', '/v1/chat/completions'],
    ['http://h/v1///', '/v1/models?a=b', '/v1/models?a=b'],
    ['http://h/v1', '/models', '/v1/models'],
    ['http://h/v1', '/v1', '/v1'],
    ['http://h/v1', '/v1?a', '/v1?a'],
    ['http://h/api/paas/v4', '/v1/chat/completions', '/api/paas/v4/chat/completions'],
    ['http://h/v1beta/openai', '/v1/chat/completions', '/v1beta/openai/chat/completions'],
    ['http://h/V2', '/v1/x', '/V2/x'],
    ['http://h/v1beta', '/v1/models/g:generateContent', '/v1beta/models/g:generateContent'],
    // Only a leading /v1 that is a segment of its own is replaced.
    ['http://h/v1', '/v1beta/models', '/v1/v1beta/models'],
    ['http://h/v1', '/v10/x', '/v1/v10/x'],
    ['http://h/v1', '/x/v1/y', '/v1/x/v1/y'],
    // A base that does not end in a version is put in front whole.
    ['http://h/gateway', '/v1/x', '/gateway/v1/x'],
    ['http://h/v1/openai-like', '/v1/x', '/v1/openai-like/v1/x'],
    ['http://h/openai/v1', '/v1/x', '/openai/v1/x'],
    ['http://h', '/a%2Fb/%7E?x=%20&y=+', '/a%2Fb/%7E?x=%20&y=+'],
    ['http://h', '//double//slash', '//double//slash'],
  ]
  for (const [base, target, path] of cases) {
    t.strictSame(joinTarget(base, target), { base, origin: 'http://h', path }, `${base} ${target}`)
  }
  t.equal(joinTarget('https://H:8443/v1', '/x').origin, 'https://h:8443')
})

t.test(
  'a session keeps its upstream when others come, and moves only if its own goes',
  async (t) => {
    const five = Array.from({ length: 5 }, (_, i) => `http://u${i}:8000`)
    const sessions = Array.from({ length: 2_000 }, (_, i) => `session-${i}`)
    const choose = (bases: string[]): string[] => {
      return sessions.map((session) => chooseBase(routes(bases), session, undefined))
    }
    const before = choose(five)
    t.strictSame(choose([...five].reverse()), before, 'in whatever order they are given')
    for (const base of five) {
      const share = before.filter((chosen) => chosen === base).length
      t.ok(share > 300 && share < 500, `${base} has ${share} of 2000`)
    }
    const added = 'http://new:8000'
    const after = choose([...five, added])
    const moved = after.filter((base, i) => base !== before[i])
    t.ok(
      moved.every((base) => base === added),
      'who moves, moves to the new one',
    )
    t.ok(moved.length > 200 && moved.length < 450, `${moved.length} of 2000 move`)
    const gone = choose(five.slice(1))
    t.ok(gone.every((base, i) => base === before[i] || before[i] === five[0]))
  },
)
