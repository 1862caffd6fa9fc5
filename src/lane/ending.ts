/** How an exchange ended, as END says it. */
import type { RolltapeError } from '../errors.ts'
import type { CloseCause, EndFrame } from '../tape/exchange.ts'
import type { Relay } from './relay.ts'

/** Bytes that are held for a commit count as forwarded: they go, or a second END says otherwise. */
export function endFrame(
  relay: Relay,
  cause: CloseCause,
  atUs: number,
  error: RolltapeError | undefined,
  part: number,
): EndFrame {
  return {
    cause,
    bytesReceived: relay.receivedBytes,
    bytesForwarded: relay.forwardedBytes + relay.heldBytes,
    atUs,
    part,
    code: error?.code ?? '',
    message: error?.message ?? '',
  }
}
