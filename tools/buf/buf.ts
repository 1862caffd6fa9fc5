#!/usr/bin/env node
/**
 * buf, as its packages for this machine bring it: `buf lint proto`. The package that usually stands
 * in front of them has an install script, which nothing here needs to run.
 */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'

const ARCH = process.platform === 'linux' && process.arch === 'arm64' ? 'aarch64' : process.arch
const binary = createRequire(import.meta.url).resolve(
  `@bufbuild/buf-${process.platform}-${ARCH}/bin/buf`,
)
const { status, error } = spawnSync(binary, process.argv.slice(2), { stdio: 'inherit' })
if (error !== undefined) throw error
process.exitCode = status ?? 1
