/** The package's version, as its `package.json` says. */
import { readFileSync } from 'node:fs'

/** The version; `unknown` where no `package.json` is found. */
export function version(): string {
  // One folder up from `src` in a checkout, two from `dist/src`.
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const parsed: unknown = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
      if (typeof parsed === 'object' && parsed !== null && 'version' in parsed) {
        return String(parsed.version)
      }
    } catch {
      // Try the next one.
    }
  }
  return 'unknown'
}
