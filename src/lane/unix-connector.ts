/**
 * Connections to a unix socket. Where more wait there to be taken than the system lets wait, it says
 * EAGAIN at once, as it never does of TCP: then it is tried again until the time is over.
 */
import { buildConnector } from 'undici'

/** Between two tries. */
const PAUSE_MS = 5

/** A connector for undici; `timeoutMs` 0 is no bound. */
export function unixConnector(socketPath: string, timeoutMs: number): buildConnector.connector {
  const connect = buildConnector({ socketPath, timeout: timeoutMs, allowH2: false })
  return (options, done) => {
    const untilMs = timeoutMs === 0 ? Infinity : performance.now() + timeoutMs
    const attempt = (): void => {
      connect(options, (...result) => {
        const code = (result[0] as NodeJS.ErrnoException | null)?.code
        if (code === 'EAGAIN' && performance.now() < untilMs) setTimeout(attempt, PAUSE_MS)
        else done(...result)
      })
    }
    attempt()
  }
}
