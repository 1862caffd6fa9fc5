/**
 * What is written about rolltape is what rolltape is: parts made from code are fresh, links lead
 * somewhere, every behaviour of a finished area has its test.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import t from 'tap'

import { BEHAVIOURS, behaviourPage, citingTests, FINISHED, PAGE } from '../../tools/behaviour.ts'
import { readme } from '../../tools/readme.ts'
import { filesOf, ROOT } from '../../tools/tree.ts'
import { startInferenceServer } from '../../src/inference/server.ts'
import { askFor, chat } from '../support/chat.ts'
import { startRecorder } from '../support/recorder.ts'

const PAGES = filesOf('*.md', 'docs/**/*.md')

t.test('every behaviour of a finished area has a test', async (t) => {
  const cited = new Set(citingTests().flatMap(({ ids }) => ids))
  t.strictSame(
    FINISHED.filter((id) => !cited.has(id)),
    [],
  )
})

t.test('every id that a test cites has a meaning', async (t) => {
  const unknown = citingTests().filter(
    ({ ids }) => !ids.every((id) => Object.hasOwn(BEHAVIOURS, id)),
  )
  t.strictSame(unknown, [])
})

t.test('the page of behaviours is fresh: `node tools/behaviour.ts` writes it', async (t) => {
  t.equal(readFileSync(join(ROOT, PAGE), 'utf8'), behaviourPage())
})

t.test(
  'the README has the options, errors and calls that there are: `node tools/readme.ts`',
  async (t) => {
    t.equal(readFileSync(join(ROOT, 'README.md'), 'utf8'), readme())
  },
)

t.test('links lead to files and headings that are there', async (t) => {
  for (const { path, text } of PAGES) {
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [file = '', heading] = target.split('#')
      const full = file === '' ? join(ROOT, path) : join(ROOT, dirname(path), file)
      t.ok(existsSync(full), `${path} → ${target}`)
      if (heading === undefined) continue
      const headings = readFileSync(full, 'utf8').matchAll(/^#+ (.+)$/gm)
      const anchors = [...headings].map(([, title = '']) => anchorOf(title))
      t.ok(anchors.includes(heading), `${path} → ${target}: the heading`)
    }
  }
})

t.test('paths of the source that pages name are there', async (t) => {
  for (const { path, text } of PAGES) {
    for (const [, named = ''] of text.matchAll(/`((?:src|workers|test|tools)\/[\w./-]+)`/g)) {
      t.ok(existsSync(join(ROOT, named)), `${path} names ${named}`)
    }
  }
})

t.test('R19: the page about records names the keys that a record has', async (t) => {
  const upstream = await startInferenceServer()
  t.teardown(() => upstream.close())
  const recorder = await startRecorder(t, upstream.url, { engine: 'vllm' })
  const headers = { 'x-rolltape-group': 'g', 'x-stainless-retry-count': '1' }
  await askFor(recorder.url, chat('all keys that there may be'), { headers })
  const [record] = await recorder.finish()
  const page = readFileSync(join(ROOT, 'docs/record.md'), 'utf8')
  const [, table = ''] = /\n## Keys\n([\s\S]*?)\n## /.exec(page) ?? []
  const cells = [...table.matchAll(/^\| (`.*?) \|/gm)].map(([, cell = '']) => cell)
  const named = cells.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, key = '']) => key))
  const keys = Object.keys(record!)
  t.strictSame(named.slice(0, 9), keys.slice(0, 9), 'the first nine in their order')
  t.strictSame(named.toSorted(), keys.toSorted())
})

/** As GitHub makes it. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')
}
