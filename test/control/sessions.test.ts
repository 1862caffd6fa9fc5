/** Sessions and cursors over the API: each call, and each refusal that its comment lists. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startInferenceServer } from '../../src/inference/server.ts'
import type { RolltapeOptions } from '../../src/rolltape.ts'
import { ask, refusal, startControlled } from '../support/control.ts'
import { post, rawRequest } from '../support/raw-client.ts'
import { makeFolder, startRecorder } from '../support/recorder.ts'
import { CHAT, bodyOf } from '../support/replayer.ts'

const upstream = await startInferenceServer({ paceMs: 0 })
t.teardown(() => upstream.close())

const recorder = await startRecorder(t, upstream.url)
for (const session of ['a', 'b']) {
  for (let turn = 0; turn < 3; turn++) {
    await rawRequest(recorder.url, post(`/sessions/${session}${CHAT}`, bodyOf(`turn ${turn}`)))
  }
}
await recorder.finish()

async function start(t: Test, options: RolltapeOptions) {
  const { address, url } = await startControlled(t, options)
  const generate = async (session: string, content = 'turn 0', run = 'default') => {
    const path = `/runs/${run}/sessions/${session}${CHAT}`
    const { status } = await rawRequest(url, post(path, bodyOf(content)))
    // A client has its answer a moment before its record counts as used.
    while (options.replayFile !== undefined) {
      const { cursors = [] } = await ask(address, 'ListCursors')
      if (!(cursors as object[]).some((cursor) => 'claimed' in cursor)) break
    }
    return status
  }
  return { address, generate }
}

async function recording(t: Test) {
  const recordingFile = join(makeFolder(t), 'a.jsonl')
  return { recordingFile, ...(await start(t, { proxyBaseUrl: upstream.url, recordingFile })) }
}

t.test('ListSessions pages by id, GetSession tells of one, CloseSession ends it', async (t) => {
  const { address, generate } = await recording(t)
  for (const session of ['s3', 's1', 's2', 's1']) await generate(session)
  await ask(address, 'FlushRecording')
  const first = await ask(address, 'ListSessions', { page_size: 2 })
  t.match(first, { sessions: [{ id: 's1', exchanges: '2', turns: '2' }, { id: 's2' }] })
  t.match(first['sessions'], [
    { outcomes: [{ outcome: 'OUTCOME_COMPLETE', count: '2' }], inputTokens: /^\d+$/ },
  ])
  const token = { page_size: 2, page_token: first['nextPageToken'] }
  const rest = await ask(address, 'ListSessions', token)
  t.match(rest, { sessions: [{ id: 's3', exchanges: '1' }] })
  t.notOk('nextPageToken' in rest)
  t.match(await ask(address, 'GetSession', { session: 's2' }), { session: { id: 's2' } })
  t.match(await ask(address, 'CloseSession', { session: 's2' }), { session: { id: 's2' } })
  const gone = ['not_found', /^no exchange of session s2 has ended/]
  t.match(await refusal(address, 'GetSession', { session: 's2' }), gone)
  t.match(await refusal(address, 'CloseSession', { session: 's2' }), gone)
  for (const call of ['GetSession', 'CloseSession', 'AnnotateSession', 'GetCursor']) {
    t.match(await refusal(address, call), ['invalid_argument', /^session has 0 bytes/], call)
  }
  t.match(await refusal(address, 'ListSessions', { page_size: -1 }), [
    'invalid_argument',
    /^page_size is -1/,
  ])
  t.match(await refusal(address, 'ListSessions', { page_token: 'x' }), [
    'invalid_argument',
    /^page_token/,
  ])
})

t.test('AnnotateSession writes a line before it answers', async (t) => {
  const { address, generate, recordingFile } = await recording(t)
  await generate('s1')
  await ask(address, 'FlushRecording')
  const said = { session: 's1', tags: { env: 'dev' }, reward: 0, done: false, note: 'größe' }
  const { file, time } = await ask(address, 'AnnotateSession', said)
  t.equal(file, recordingFile.replace('.jsonl', '.annotations.jsonl'))
  t.match(time, /^20\d\d-/)
  t.match(JSON.parse(readFileSync(String(file), 'utf8')) as object, {
    schema: 'rolltape.annotation/1',
    ...said,
  })
  for (const [request, why] of [
    [{}, /^nothing is said/],
    [{ tags: { '': 'x' } }, /^tags holds ""/],
    [{ tags: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [i, ''])) }, /^tags has 65/],
    [{ reward: 'NaN' }, /^reward is NaN/],
    [{ note: 'x'.repeat(4_097) }, /^note has 4097 characters/],
  ] as const) {
    const answer = await refusal(address, 'AnnotateSession', { session: 's1', ...request })
    t.match(answer, ['invalid_argument', why])
  }
  t.match(await refusal(address, 'AnnotateSession', { session: 'none', done: true }), ['not_found'])
  const replay = await start(t, { replayFile: recorder.file })
  t.match(await refusal(replay.address, 'AnnotateSession', { session: 'a', done: true }), [
    'failed_precondition',
  ])
})

t.test('cursors are listed, got, moved, reset and forked', async (t) => {
  const { address, generate } = await start(t, { replayFile: recorder.file, match: 'sequence' })
  for (const session of ['b', 'mine']) t.equal(await generate(session), 200)
  const first = await ask(address, 'ListCursors', { page_size: 1 })
  t.match(first, {
    cursors: [
      {
        run: 'default',
        session: 'mine',
        bound: true,
        recordedSession: 'a',
        position: '1',
        total: '3',
        used: '1',
        nextSeq: '2',
        nextTurn: '2',
      },
    ],
  })
  const token = { page_size: 1, page_token: first['nextPageToken'] }
  const rest = await ask(address, 'ListCursors', token)
  t.match(rest, { cursors: [{ session: 'b' }] })
  t.notOk('nextPageToken' in rest)

  const mine = { session: 'mine' }
  t.match(await ask(address, 'SeekCursor', { ...mine, position: 2, expected_position: 1 }), {
    cursor: { position: '2', used: '2' },
  })
  t.match(await ask(address, 'GetCursor', mine), { cursor: { position: '2', nextTurn: '3' } })
  t.match(await ask(address, 'ForkCursor', { ...mine, to_run: 'second' }), {
    cursor: { run: 'second', session: 'mine', recordedSession: 'a', position: '2' },
  })
  t.equal(await generate('mine', 'turn 0', 'second'), 200)
  t.equal(await generate('mine', 'turn 0', 'second'), 404, 'the third was the last')
  const reset = await ask(address, 'ResetCursors', mine)
  t.match(reset, { cursor: { session: 'mine', total: '3' } })
  t.notOk('position' in (reset['cursor'] as object))
  t.match(await ask(address, 'CloseSession', { session: 'b' }), {
    cursors: [{ session: 'b', total: '3', used: '1' }],
    unused: '2',
  })
  t.strictSame(await ask(address, 'ResetCursors'), {})
  t.strictSame(await ask(address, 'ListCursors', { run: 'default' }), {})

  t.match(await refusal(address, 'GetCursor', { session: 'none' }), ['not_found'])
  t.match(await refusal(address, 'GetCursor', { run: 'none', ...mine }), ['not_found'])
  t.match(await refusal(address, 'ResetCursors', { run: 'none' }), ['not_found'])
  t.match(await refusal(address, 'SeekCursor', { session: 'a', position: 4 }), [
    'invalid_argument',
    /^position is 4/,
  ])
  t.match(await refusal(address, 'SeekCursor', { session: 'a', position: -1 }), [
    'invalid_argument',
    /^position is -1/,
  ])
  const lost = { session: 'a', position: 1, expected_position: 2 }
  t.match(await refusal(address, 'SeekCursor', lost), ['aborted', /^position 2 is expected/])
  const within = { session: 'a', to_run: 'default' }
  t.match(await refusal(address, 'ForkCursor', within), ['invalid_argument'])
  const taken = { session: 'a', to_run: 'second', to_session: 'other' }
  t.match(await refusal(address, 'ForkCursor', taken), ['failed_precondition'])
})

t.test('where nothing is replayed there are no cursors', async (t) => {
  const { address } = await start(t, { proxyBaseUrl: upstream.url })
  const session = { session: 'a' }
  for (const [call, request] of [
    ['ListCursors', {}],
    ['GetCursor', session],
    ['SeekCursor', session],
    ['ResetCursors', {}],
    ['ForkCursor', { ...session, to_run: 'x' }],
  ] as const) {
    const why = ['failed_precondition', /^nothing is replayed/]
    t.match(await refusal(address, call, request), why, call)
  }
})
