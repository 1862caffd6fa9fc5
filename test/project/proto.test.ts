/** What is generated from the proto files is fresh; what would break a caller is found. */
import { globSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { GEN, generate } from '../../tools/proto.ts'
import { ROOT } from '../../tools/tree.ts'
import { makeFolder } from '../support/recorder.ts'

function contents(root: string): Record<string, string> {
  const files = globSync('**/*.ts', { cwd: join(root, GEN) }).sort()
  return Object.fromEntries(
    files.map((file) => [file, readFileSync(join(root, GEN, file), 'utf8')]),
  )
}

t.test('committed code is what `npm run proto` writes', async (t) => {
  const folder = makeFolder(t)
  mkdirSync(join(folder, GEN), { recursive: true })
  generate(folder)
  const made = contents(folder)
  const committed = contents(ROOT)
  t.ok(Object.keys(made).length > 3)
  t.strictSame(Object.keys(committed), Object.keys(made))
  for (const file of Object.keys(made)) t.ok(committed[file] === made[file], `${file} is fresh`)
})
