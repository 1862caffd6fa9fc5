/**
 * A disk that runs out of room while rolltape records: new exchanges are treated as `on_tape_failure`
 * says before it is full, what is in flight ends whole, and all is as before once there is room.
 */
import fs from 'node:fs'
import t from 'tap'
import { chunkOf, lastChunk, responseHead, startScriptedUpstream } from '../../src/inference/raw.ts'
import { FreeSpace } from '../../src/supervisor/free-space.ts'
import { SharedTables, makeSharedMemory } from '../../src/supervisor/shared.ts'
import { realDisk } from '../../src/tape/disk.ts'
import type { Space } from '../../src/tape/disk.ts'
import { rolltape } from '../cli/harness.ts'
import { RawClient, post } from '../support/raw-client.ts'
import { startRecorder } from '../support/recorder.ts'
import { CHAT, ask, bodyOf } from '../support/replayer.ts'

const ENOUGH = 1_000_000
const BOUND = 500_000

/** What the file system says of itself from now on. */
let free = ENOUGH
const statfs = fs.statfs
fs.statfs = ((_path: string, done: (error: null, found: object) => void) => {
  setImmediate(() => done(null, { bavail: free, bsize: 1, type: 0 }))
}) as unknown as typeof fs.statfs
t.teardown(() => (fs.statfs = statfs))

/** An upstream whose answers to "slow" wait for the gate. */
const gate = Promise.withResolvers<void>()
const upstream = await startScriptedUpstream((x) => {
  const head = responseHead(200, 'OK', [['Transfer-Encoding', 'chunked']])
  const isSlow = x.body.toString().includes('slow')
  return x.send(
    head,
    chunkOf('first,'),
    ...(isSlow ? [gate.promise] : []),
    chunkOf('last'),
    lastChunk(),
  )
})
t.teardown(() => upstream.close())

/** Asks until the answer has this status; the answer. */
async function until(url: string, status: number) {
  for (;;) {
    const answer = await ask(url, 'quick')
    if (answer.status === status) return answer
    if (![200, 503].includes(answer.status)) throw new Error(`${answer.status}`)
  }
}

t.test('refuse: 503 says how much there is; what runs ends whole; it ends by itself', async (t) => {
  const recorder = await startRecorder(t, upstream.url, { minFreeBytes: BOUND, logLevel: 'silent' })
  const client = await RawClient.open(recorder.url)
  client.send(post(CHAT, bodyOf('slow')))
  await client.until((have) => have.includes('first,'))
  free = BOUND - 1
  const refused = await until(recorder.url, 503)
  t.match(JSON.parse(refused.body.toString()), {
    error: {
      code: 'tape_unavailable',
      message: `the tape cannot be written: ${recorder.folder}: 499999 bytes are free, and min_free_bytes is 500000; retry later, or serve without recording: on_tape_failure: passthrough`,
    },
  })
  gate.resolve()
  t.equal((await client.answer()).body.toString(), 'first,last')
  client.close()
  free = BOUND
  await until(recorder.url, 200)
  const records = await recorder.finish()
  t.ok(records.every(({ outcome }) => outcome === 'complete'))
  t.match(records[0], { seq: 1, outcome: 'complete' }, 'the one that ran')
  t.match(await rolltape(['verify', recorder.file]), { code: 0 })
})

t.test('passthrough: exchanges are served and not recorded', async (t) => {
  free = 10
  const recorder = await startRecorder(t, upstream.url, {
    minFreeBytes: BOUND,
    onTapeFailure: 'passthrough',
    logLevel: 'silent',
  })
  // The first look may still be on its way.
  for (let n = 0; n < 20; n++) t.equal((await ask(recorder.url, 'quick')).status, 200)
  const records = await recorder.finish()
  t.ok(records.length < 20, `${records.length} were recorded`)
  t.match(await rolltape(['verify', recorder.file]), { code: 0 })
  free = ENOUGH
})

t.test('without a bound nothing is looked at', async (t) => {
  free = 0
  const recorder = await startRecorder(t, upstream.url, { minFreeBytes: 0 })
  for (let n = 0; n < 5; n++) t.equal((await ask(recorder.url, 'quick')).status, 200)
  t.equal((await recorder.finish()).length, 5)
  free = ENOUGH
})

/** A look at a disk of this kind; what the lanes are told, and what is logged. */
function look(space: Space, minBytes = BOUND) {
  const logged: string[] = []
  const tables = new SharedTables(makeSharedMemory())
  let now: Space = space
  const log = {
    debug: () => undefined,
    warn: (_: object, message: string) => logged.push(message),
    error: (_: object, message: string) => logged.push(message),
  }
  const disk = {
    ...realDisk,
    space: (_: string, done: (e: null, s: Space) => void) => done(null, now),
  }
  const watch = new FreeSpace({ folder: '/x', minBytes, tables, log, disk } as never)
  t.teardown(() => watch.close())
  return {
    logged,
    tables,
    again(next: Space) {
      now = next
      watch.look()
    },
  }
}

t.test('what changes is logged, what stays is not', async (t) => {
  const { logged, tables, again } = look({ freeBytes: ENOUGH, type: 0 })
  t.equal(tables.lowSpace, undefined)
  for (const freeBytes of [1, 2]) again({ freeBytes, type: 0 })
  t.equal(tables.lowSpace, `2 bytes are free, and min_free_bytes is ${BOUND}`)
  for (const freeBytes of [BOUND, ENOUGH]) again({ freeBytes, type: 0 })
  t.equal(tables.lowSpace, undefined)
  t.strictSame(logged, [
    'the disk has too little room: nothing new is recorded',
    'the disk has room again',
  ])
})

t.test('a network file system is warned of', async (t) => {
  for (const [type, name] of [
    [0x6969, 'NFS'],
    [-11_317_950, 'CIFS'],
    [0xff534d42, 'CIFS'],
    [0x65735546, 'FUSE'],
    [0x01021997, '9p'],
    [0x0bd00bd0, 'Lustre'],
  ] as const) {
    const { logged } = look({ freeBytes: ENOUGH, type })
    t.match(logged, [`the tape is on a network file system (${name})`], String(type))
  }
  t.strictSame(look({ freeBytes: ENOUGH, type: 0xef53 }).logged, [], 'ext4 is none')
})
