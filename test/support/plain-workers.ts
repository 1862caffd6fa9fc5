/**
 * Preloaded into each test: threads start without the hooks that the test runner puts into its own.
 * Nothing is mocked or measured in them, and loading a lane's modules through those hooks takes three
 * times as long; a test starts dozens of threads.
 */
import { syncBuiltinESMExports } from 'node:module'
import threads from 'node:worker_threads'
import type { WorkerOptions } from 'node:worker_threads'

threads.Worker = class extends threads.Worker {
  constructor(file: string | URL, options: WorkerOptions = {}) {
    super(file, { execArgv: [], ...options })
  }
}
syncBuiltinESMExports()
