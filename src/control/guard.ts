/** Who may call: a token that every call but health's must bring. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { ServerInterceptingCall, ServerListenerBuilder } from '@grpc/grpc-js'
import type { Metadata, ServerInterceptor } from '@grpc/grpc-js'
import { RolltapeError, errorText } from '../errors.ts'
import { failureOf } from './failure.ts'

const OPEN = '/grpc.health.v1.Health/'

/**
 * Reads a token: the file's text without blanks around it.
 * @throws RolltapeError `bad_option` when there is none in it.
 */
export function readToken(file: string): string {
  let token: string
  try {
    token = readFileSync(file, 'utf8').trim()
  } catch (cause) {
    const message = `control_token_file ${file} cannot be read: ${errorText(cause)}`
    throw new RolltapeError('bad_option', message, { cause })
  }
  if (/^[\x21-\x7e]+$/.test(token)) return token
  const what = token === '' ? 'is empty' : 'holds characters that a header cannot carry'
  throw new RolltapeError('bad_option', `control_token_file ${file} ${what}`, {
    hint: 'put one token into it, such as the output of `openssl rand -hex 32`',
  })
}

/** Refuses calls that do not bring the token. */
export function tokenGuard(token: string): ServerInterceptor {
  const expected = digest(`Bearer ${token}`)
  const brings = (metadata: Metadata): boolean => {
    const [given, ...more] = metadata.get('authorization')
    // Digests have one length, so neither length nor content shows in the time this takes.
    return more.length === 0 && timingSafeEqual(digest(String(given ?? '')), expected)
  }
  return ({ path }, call) =>
    path.startsWith(OPEN)
      ? new ServerInterceptingCall(call)
      : new ServerInterceptingCall(call, {
          start: (next) =>
            next(
              new ServerListenerBuilder()
                .withOnReceiveMetadata((metadata, pass) => {
                  if (brings(metadata)) pass(metadata)
                  else call.sendStatus(failureOf(refusal(metadata)))
                })
                .build(),
            ),
        })
}

function refusal(metadata: Metadata): RolltapeError {
  const given = metadata.get('authorization').length > 0
  const message = given ? 'the token is not the one' : 'this call needs a token, and brings none'
  const hint =
    'send `authorization: Bearer <token>`; `rolltape ctl` reads it from --control-token-file'
  return new RolltapeError('unauthenticated', message, { hint })
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
