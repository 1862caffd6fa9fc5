/** `--set-up`: what the peers need, from Debian's packages and from npm. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PEERS_INSTALLED, PEER_PACKAGES } from './arms/peers.ts'

/** Needed by all cases. */
const NEEDED = ['nginx', 'gcc', 'libc6-dev']
/** An arm each; the bench does without. */
const PEERS = ['haproxy', 'python3-fastapi', 'python3-httpx', 'uvicorn', 'mitmproxy']

/** Installs what can be installed, and says what was skipped and why. */
export function setUp(): void {
  const skipped: string[] = []
  run('apt-get', ['update'])
  if (!run('apt-get', ['install', '-y', '--no-install-recommends', ...NEEDED])) {
    skipped.push(`${NEEDED.join(', ')}: apt-get could not install them; nothing can be measured`)
  }
  for (const name of PEERS) {
    if (!run('apt-get', ['install', '-y', '--no-install-recommends', name])) {
      skipped.push(`${name}: apt-get could not install it`)
    }
  }
  mkdirSync(PEERS_INSTALLED, { recursive: true })
  writeFileSync(join(PEERS_INSTALLED, 'package.json'), '{"private":true}\n')
  for (const name of PEER_PACKAGES) {
    const options = ['--prefix', PEERS_INSTALLED, '--ignore-scripts', '--no-audit', '--no-fund']
    if (!run('npm', ['install', ...options, name]))
      skipped.push(`${name}: npm could not install it`)
  }
  const told = skipped.map((line) => `skipped ${line}\n`).join('')
  process.stdout.write(told === '' ? 'everything is installed\n' : told)
}

function run(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'inherit' }).status === 0
}
