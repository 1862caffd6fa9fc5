#!/usr/bin/env node
/**
 * The process edge: the Node version, signals and exit codes; the only file that may exit.
 *
 * Nothing is imported before the version is known, so that an old Node can say what it lacks. The
 * first SIGINT or SIGTERM asks the running command to finish, a second one ends the process.
 * SIGHUP ends it too, unless the command listens for it.
 */
const NODE_MAJOR_MIN = 24

/** libuv's pool serves DNS, zlib and the tape's file work of all threads: 8 + 2 per lane. */
const THREADPOOL_SIZE = '10'

if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  process.stderr.write(
    `rolltape needs Node ${NODE_MAJOR_MIN} or newer, and this is Node ${process.versions.node}\n`,
  )
  process.exit(1)
}

process.env['UV_THREADPOOL_SIZE'] ??= THREADPOOL_SIZE
const stopping = new AbortController()
const SIGNALS = { SIGINT: 130, SIGTERM: 143 }
for (const [signal, code] of Object.entries(SIGNALS)) {
  process.on(signal, () => {
    if (stopping.signal.aborted) process.exit(code)
    stopping.abort(signal)
  })
}
// A reader that has seen enough (`| head`) closes the pipe; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1)
})

const { run } = await import('./cli/program.ts')
const code = await run({
  argv: process.argv.slice(2),
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  stopping: stopping.signal,
  onHangup: (listener) => process.on('SIGHUP', listener),
  self: [process.execPath, ...process.execArgv, process.argv[1] ?? ''],
})
process.stdout.write('', () => process.exit(code))
