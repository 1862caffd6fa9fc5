/** The one way to reset a connection. */
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/**
 * Closes a connection with RST, so that its other side can take nothing for whole. One whose end is
 * on its way is destroyed instead: libuv refuses to reset it, and Node 26 would then keep its handle
 * for good, and the process or thread that holds it could not end. So is one over TLS, where an end
 * without a close_notify says the same.
 */
export function reset(socket: Socket): void {
  if (socket.writableEnded || socket instanceof TLSSocket) socket.destroy()
  else socket.resetAndDestroy()
}
