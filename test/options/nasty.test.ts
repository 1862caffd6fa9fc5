// Every option with values that nobody wants: taken, or refused by name; never anything else.
import t from 'tap'
import { RolltapeError } from '../../src/errors.ts'
import { resolveOptions } from '../../src/options.ts'
import { OPTION_KEYS, names } from '../../src/options/definitions.ts'

const FOLDER = t.testdir({ 'secret.txt': 'hunter2-of-some-file\n' })
const NASTY: readonly unknown[] = [
  ['', ' ', '\0', '-1', '0', '1e999', 'NaN', '0x10', '١٢', '99999999999999999999', '--', 'true'],
  ['../../../../etc/passwd', `${FOLDER}/secret.txt`, FOLDER, '/dev/null', 'file:///etc/passwd'],
  ['🦊'.repeat(10), '\u202e\ufeff', 'a=b=c', ',', 'x'.repeat(1 << 20), 'http://', 'env:NO_SUCH'],
  ['http://user:pass@host/v1', 'ftp://h', 'unix:', '[::1', '%ZZ', '$(id)', '`id`', '; rm x'],
  [0, -1, 1.5, Number.NaN, Infinity, 2 ** 53, true, false, [], {}, [[]], [null], null, ['a', 'b']],
  [{ a: { b: 'c' } }, { '': '' }, { __proto__: { polluted: true } }, new Date(0), () => 1],
].flat()

/** Everything a user reads of what went wrong. */
function told(error: RolltapeError): string {
  return `${error.message} ${error.hint ?? ''}`
}

for (const key of OPTION_KEYS) {
  const { yaml } = names(key)
  t.test(`${yaml} takes a value or refuses it by name`, (t) => {
    for (const value of NASTY) {
      for (const given of ['options', 'flags', 'env'] as const) {
        if (given === 'env' && typeof value !== 'string') continue
        const startMs = performance.now()
        const sources =
          given === 'env'
            ? { env: { [`ROLLTAPE_${yaml.toUpperCase()}`]: value as string } }
            : { [given]: { [key]: value } as object }
        try {
          resolveOptions(sources)
        } catch (error) {
          const shown = `${given} ${JSON.stringify(value)?.slice(0, 60)}`
          if (!(error instanceof RolltapeError)) {
            t.fail(`${shown}: ${String(error)}`)
            continue
          }
          const text = told(error)
          // Refusals that come of several options together name what is missing.
          if (text.length > 2_000) t.fail(`${shown}: ${text.length} characters`)
          if (text.includes('hunter2')) t.fail(`${shown}: tells what a file holds`)
          if (!['bad_option', 'recording_conflict', 'config_unreadable'].includes(error.code)) {
            t.fail(`${shown}: ${error.code}`)
          }
        }
        if (performance.now() - startMs > 5_000)
          t.fail(`${String(value).slice(0, 60)} takes too long`)
      }
    }
    t.equal(({} as { polluted?: true }).polluted, undefined)
    t.pass(`${NASTY.length} values`)
    t.end()
  })
}
