/** Recordings of small segments, for tests of what becomes of these. */
import { readdirSync, watch } from 'node:fs'
import { post, rawRequest } from './raw-client.ts'
import { CHAT, bodyOf, plain } from './replayer.ts'

const LONG = 'what was said before, '.repeat(600)

/** Resolves once the folder looks as asked for. */
export async function untilFolder(
  folder: string,
  isSo: (names: string[]) => boolean,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const look = (): void => (isSo(readdirSync(folder)) ? resolve() : undefined)
  const watcher = watch(folder, look)
  look()
  await promise
  watcher.close()
}

/** One turn of a conversation. */
export interface Said {
  readonly session: string
  readonly body: string
  readonly answer: unknown[]
}

/** Turns of three sessions with some 13 KB each, every other one streamed. */
export async function talk(url: string, turns: number): Promise<Said[]> {
  const said: Said[] = []
  for (let turn = 1; turn <= turns; turn++) {
    const asked = ['a', 'b', 'c'].map(async (session) => {
      const body = bodyOf(`${session} ${turn} ${LONG}`, { stream: turn % 2 === 0 })
      said.push({ session, body, answer: await say(url, session, body) })
    })
    await Promise.all(asked)
  }
  return said
}

/** Asks in a session; what is compared of the answer. */
export async function say(url: string, session: string, body: string): Promise<unknown[]> {
  return plain(await rawRequest(url, post(CHAT, body, [`x-session-id: ${session}`])))
}
