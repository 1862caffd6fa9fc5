/** What is generated from the proto files is fresh; what would break a caller is found. */
import { cpSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { GEN, breaking, generate } from '../../tools/proto.ts'
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

t.test('a field that moves is found, one that is added is not', async (t) => {
  const folder = join(makeFolder(t), 'proto')
  cpSync(join(ROOT, 'proto'), folder, { recursive: true })
  const file = join(folder, 'rolltape/control/v1/control.proto')
  const now = readFileSync(file, 'utf8')
  const change = (from: string, to: string): void => {
    t.ok(now.includes(from))
    writeFileSync(file, now.replace(from, to))
  }
  change('  string version = 1;', '  string version = 1;\n  // More.\n  string more = 99;')
  t.doesNotThrow(() => breaking(folder, 'proto'))
  change('  string version = 1;', '  string version = 99;')
  t.throws(() => breaking(folder, 'proto'))
})
