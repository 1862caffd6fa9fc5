/**
 * What a user says becomes one frozen configuration: defaults, precedence of the sources, units,
 * and what follows from what.
 */
import t, { type Test } from 'tap'

import { asConfig, packConfig, resolveOptions, unpackConfig } from '../../src/options.ts'

const UPSTREAM = { proxyBaseUrl: 'http://a:1/v1/' }

function yaml(t: Test, content: string): string {
  return `${t.testdir({ 'rolltape.yaml': content })}/rolltape.yaml`
}

t.test('R32: with an upstream alone, everything else is a default', async (t) => {
  const config = resolveOptions({ options: UPSTREAM })
  const { origins, proxyRules, ...rest } = config
  t.strictSame(rest, {
    host: '127.0.0.1',
    port: 8080,
    insecureBind: false,
    control: { kind: 'tcp', host: '127.0.0.1', port: 50_051 },
    keysFile: null,
    tlsCert: null,
    tlsKey: null,
    controlTlsCert: null,
    controlTlsKey: null,
    controlClientCa: null,
    controlTokenFile: null,
    proxyBaseUrl: ['http://a:1/v1'],
    upstreamApiKey: null,
    requestTimeoutMs: 600_000,
    connectTimeoutMs: 30_000,
    ttfbTimeoutMs: 0,
    stallTimeoutMs: 0,
    heartbeatMs: 0,
    onClientGone: 'cancel',
    requestBodyBytesMax: 67_108_864,
    maxInFlight: 0,
    maxInFlightBytes: 1_073_741_824,
    maxQueue: 1_024,
    queueTimeoutMs: 30_000,
    clientHeaderTimeoutMs: 60_000,
    clientBodyTimeoutMs: 60_000,
    upstreamCa: null,
    upstreamInsecure: false,
    engines: new Map(),
    topLogprobs: 5,
    sglangStreams: 'logprobs',
    requires: [],
    modelOverride: null,
    maxCompletionTokens: [],
    maxTokensCap: null,
    disableThinking: false,
    policyPollPath: null,
    policyPollIntervalMs: 1_000,
    responderQueue: 4_096,
    responderWaitMs: 60_000,
    onNoResponder: 503,
    recordingFile: null,
    durability: 'written',
    replayFile: null,
    match: 'keyed',
    sessionMatch: 'bind',
    pace: { kind: 'instant' },
    onExhausted: 'error',
    onMiss: 'error',
    replayTurns: null,
    sessionOverrides: new Map(),
    onAbort: 'rewind',
    replayPartial: false,
    shape: 'recorded',
    onUnusable: 'error',
    failOn: [],
    ignore: [],
    ignoreProfile: [],
    onTapeFailure: 'refuse',
    commitTimeoutMs: 30_000,
    segmentBytes: 268_435_456,
    recordRequests: 'full',
    minFreeBytes: 268_435_456,
    takeOver: false,
    tapeCompress: 'zstd',
    tapeRetain: { kind: 'keep' },
    redactHeaders: [],
    redactQuery: [],
    tags: {},
    rotateBytes: 0,
    rotateIntervalMs: 0,
    lanes: 1,
    recordWorkers: 1,
    sessionSources: ['path', 'header'],
    sessionBodyField: null,
    drainTimeoutMs: 30_000,
    logLevel: 'info',
    configFile: null,
    stateFile: null,
    detach: false,
    mode: 'passthrough',
    maxAttempts: 1,
    retryAfterSend: false,
    retryableStatusCodes: [],
  })
  t.equal(proxyRules.size, 0)
  t.ok(Object.isFrozen(config))
  t.strictSame(
    Object.entries(origins).filter(([, origin]) => origin !== 'default'),
    [['proxyBaseUrl', 'option']],
  )
})

t.test('R33: flags beat variables, those beat the file, that beats defaults', async (t) => {
  const file = yaml(t, 'proxy_base_url: http://file:1\nport: 1\nhost: 127.0.0.3\nlog_level: warn\n')
  const env = { ROLLTAPE_PORT: '2', ROLLTAPE_LOG_LEVEL: 'error', ROLLTAPE_HOST: '', HOME: '/' }
  const config = resolveOptions({ flags: { port: '3', configFile: file }, env })
  const { port, host, logLevel, proxyBaseUrl, origins } = config
  t.strictSame(
    { port, host, logLevel, proxyBaseUrl, configFile: config.configFile },
    {
      port: 3,
      host: '127.0.0.3',
      logLevel: 'error',
      proxyBaseUrl: ['http://file:1'],
      configFile: file,
    },
  )
  t.match(origins, { port: 'flag', host: 'file', logLevel: 'env', drainTimeout: 'default' })
})

t.test('R34: an empty file is defaults', async (t) => {
  for (const content of ['', '\n# nothing\n', '{}', 'port:\n']) {
    const { port, origins } = resolveOptions({ options: UPSTREAM, file: yaml(t, content) })
    t.strictSame([port, origins.port], [8080, 'default'], JSON.stringify(content))
  }
})

t.test('R32: the reference configuration is read with its own names', async (t) => {
  const file = yaml(
    t,
    [
      'host: 127.0.0.1',
      'port: 9000',
      'proxy_rules:',
      '  qwen3: http://q:8000/',
      '  default: http://d:8000',
      'retryable_status_codes: [429, 503]',
      'request_timeout: 120',
      'recording_file: runs/a.jsonl',
    ].join('\n'),
  )
  const config = resolveOptions({ file })
  t.match(config, {
    port: 9000,
    proxyBaseUrl: [],
    retryableStatusCodes: [429, 503],
    maxAttempts: 6,
    retryAfterSend: true,
    requestTimeoutMs: 120_000,
    recordingFile: 'runs/a.jsonl',
    mode: 'record',
  })
  t.strictSame(
    [...config.proxyRules],
    [
      ['qwen3', 'http://q:8000'],
      ['default', 'http://d:8000'],
    ],
  )
})

t.test('durations and sizes are read with and without units', async (t) => {
  const durations = {
    600: 600_000,
    '600s': 600_000,
    '250ms': 250,
    '2m': 120_000,
    '1.5 s': 1500,
    '1h': 3_600_000,
    0: 0,
  }
  for (const [written, ms] of Object.entries(durations)) {
    const { requestTimeoutMs } = resolveOptions({ flags: { ...UPSTREAM, requestTimeout: written } })
    t.equal(requestTimeoutMs, ms, written)
  }
  t.equal(resolveOptions({ options: { ...UPSTREAM, stallTimeout: 0.25 } }).stallTimeoutMs, 250)
  const sizes = { '8MiB': 8_388_608, '1GB': 1e9, 70000: 70_000, '64kib': 65_536, '1.5 MB': 1.5e6 }
  for (const [written, size] of Object.entries(sizes)) {
    const { segmentBytes } = resolveOptions({ flags: { ...UPSTREAM, segmentBytes: written } })
    t.equal(segmentBytes, size, written)
  }
})

t.test('lists and maps come from repeated flags, text with commas, and YAML', async (t) => {
  const flags = resolveOptions({
    flags: { proxyBaseUrl: ['http://a', 'http://b/'], tag: ['run=1', 'note=a=b, c'] },
  })
  t.strictSame(flags.proxyBaseUrl, ['http://a', 'http://b'])
  t.strictSame(flags.tags, { run: '1', note: 'a=b, c' })
  const env = resolveOptions({
    env: {
      ROLLTAPE_PROXY_BASE_URL: 'http://a, http://b',
      ROLLTAPE_TAG: 'run=1,team=x',
      ROLLTAPE_SESSION_SOURCES: 'header',
    },
  })
  t.strictSame(env.proxyBaseUrl, ['http://a', 'http://b'])
  t.strictSame(env.tags, { run: '1', team: 'x' })
  t.strictSame(env.sessionSources, ['header'])
  const file = resolveOptions({
    file: yaml(t, 'proxy_base_url: [http://a, http://b]\ntag: {run: 17, dry: true}\n'),
  })
  t.strictSame(file.proxyBaseUrl, ['http://a', 'http://b'])
  t.strictSame(file.tags, { run: '17', dry: 'true' })
})

t.test(
  'what a session has of its own comes from flags, variables, YAML and the library',
  async (t) => {
    const more = { ...UPSTREAM, mode: 'hybrid', replayFile: 'a.jsonl' } as const
    const wanted = new Map([
      ['s:1', { pace: { kind: 'steady', ttftMs: 200, perChunkMs: 20 }, shape: 'single' }],
      ['s2', { mode: 'passthrough' }],
      ['s3', { replayTurns: 2 }],
    ])
    const written = [
      's:1:pace=ttft=200,tps=50',
      's:1:shape=single',
      's2:mode=passthrough',
      's3:replay-turns=2',
    ]
    const overridesOf = (sources: Parameters<typeof resolveOptions>[0]) =>
      resolveOptions(sources).sessionOverrides
    t.strictSame(overridesOf({ options: more, flags: { sessionOverride: written } }), wanted)
    const map = { s2: { mode: 'passthrough' }, s3: { replayTurns: 2 } } as const
    const own = { pace: 'ttft=200,tps=50', shape: 'single' } as const
    t.strictSame(
      overridesOf({ options: { ...more, sessionOverride: { 's:1': own, ...map } } }),
      wanted,
    )
    const text =
      'session_override:\n  "s:1": {pace: "ttft=200,tps=50", shape: single}\n' +
      '  s2: {mode: passthrough}\n  s3: {replay_turns: 2}\n'
    t.strictSame(overridesOf({ options: more, file: yaml(t, text) }), wanted)
    const env = { ROLLTAPE_SESSION_OVERRIDE: 's2:mode=passthrough' }
    t.strictSame(overridesOf({ options: more, env }), new Map([['s2', { mode: 'passthrough' }]]))
  },
)

t.test('R11: attempts follow from status codes, unless they are given', async (t) => {
  const retry = (options: object) => {
    const config = resolveOptions({ options: { ...UPSTREAM, ...options } })
    return [config.maxAttempts, config.retryAfterSend, config.retryableStatusCodes]
  }
  t.strictSame(retry({}), [1, false, []])
  t.strictSame(retry({ retryableStatusCodes: [429] }), [6, true, [429]])
  t.strictSame(retry({ retryableStatusCodes: [429], maxAttempts: 2, retryAfterSend: false }), [
    2,
    false,
    [429],
  ])
  t.strictSame(retry({ maxAttempts: 3 }), [3, false, [408, 429, 500, 502, 503, 504]])
  t.strictSame(retry({ retryableStatusCodes: [] }), [1, false, []])
})

t.test('a key is resolved by reference, never printed, and survives a thread', async (t) => {
  const file = `${t.testdir({ key: 'sk-from-file\n' })}/key`
  for (const [reference, key] of [
    ['env:MY_KEY', 'sk-from-env'],
    [`file:${file}`, 'sk-from-file'],
  ]) {
    const config = resolveOptions({
      options: { ...UPSTREAM, upstreamApiKey: reference! },
      env: { MY_KEY: 'sk-from-env' },
    })
    t.equal(config.upstreamApiKey?.reveal(), key)
    const { inspect } = await import('node:util')
    const printed = `${config.upstreamApiKey} ${JSON.stringify(config)} ${inspect(config)}`
    t.notMatch(printed, key)
    t.match(printed, `[secret ${reference}]`)
    const carried = unpackConfig(structuredClone(packConfig(config)))
    t.equal(carried.upstreamApiKey?.reveal(), key)
    t.strictSame({ ...carried, upstreamApiKey: null }, { ...config, upstreamApiKey: null })
  }
})

t.test(
  'a resolved configuration passes through asConfig as it is, options are resolved',
  async (t) => {
    const config = resolveOptions({ options: UPSTREAM })
    t.equal(asConfig(config), config)
    t.equal(asConfig({ ...UPSTREAM, port: 0 }).port, 0)
  },
)

t.test('engines are named for all upstreams, or by base URL', async (t) => {
  const two = { proxyBaseUrl: ['http://a:1/v1', 'http://b:2'] } as const
  const cases: [sources: Parameters<typeof resolveOptions>[0], engines: [string, string][]][] = [
    [{ options: { ...two, engine: 'vllm' } }, [['default', 'vllm']]],
    [
      { flags: { ...two, engine: ['http://a:1/v1/=vllm', 'openai'] } },
      [
        ['http://a:1/v1', 'vllm'],
        ['default', 'openai'],
      ],
    ],
    [
      { options: two, env: { ROLLTAPE_ENGINE: 'http://b:2=sglang,none' } },
      [
        ['http://b:2', 'sglang'],
        ['default', 'none'],
      ],
    ],
    [{ options: { ...two, engine: { 'http://b:2': 'sglang' } } }, [['http://b:2', 'sglang']]],
    [
      { file: yaml(t, 'proxy_rules: {m: "http://c:3"}\nengine: {"http://c:3": vllm}\n') },
      [['http://c:3', 'vllm']],
    ],
  ]
  for (const [sources, engines] of cases)
    t.strictSame([...resolveOptions(sources).engines], engines)
  const wrong = (engine: string): unknown => resolveOptions({ flags: { ...two, engine: [engine] } })
  t.throws(() => wrong('http://c:3=vllm'), {
    code: 'bad_option',
    message: /http:\/\/c:3, which is no upstream/,
  })
  t.throws(() => wrong('tgi'), { code: 'bad_option', message: /vllm, sglang, openai, none/ })
  t.throws(() => wrong('a=vllm'), { code: 'bad_option' })
})

t.test('O6: `known` stands for the models that are known to want it', async (t) => {
  const { maxCompletionTokens } = resolveOptions({
    flags: { ...UPSTREAM, maxCompletionTokens: ['known', 'o1*,x'] },
  })
  t.strictSame(maxCompletionTokens, ['gpt-5*', 'o1*', 'o3*', 'o4*', 'x'])
})

t.test('how long the tape stays is a word, a size or an age', async (t) => {
  for (const [written, retain] of [
    ['keep', { kind: 'keep' }],
    ['until-derived', { kind: 'until_derived' }],
    ['1.5GiB', { kind: 'bytes', bytesMax: 1_610_612_736 }],
    ['500 MB', { kind: 'bytes', bytesMax: 500_000_000 }],
    ['36h', { kind: 'age', ageMs: 129_600_000 }],
    ['7d', { kind: 'age', ageMs: 604_800_000 }],
  ] as const) {
    const { tapeRetain } = resolveOptions({ flags: { ...UPSTREAM, tapeRetain: written } })
    t.strictSame(tapeRetain, retain, written)
  }
  for (const written of ['7', '1000000', 'forever', '7 weeks', '-1d', '']) {
    t.throws(
      () => resolveOptions({ flags: { ...UPSTREAM, tapeRetain: written } }),
      { code: 'bad_option' },
      written,
    )
  }
})
