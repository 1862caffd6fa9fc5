/** The service that responders call, beside the control service and on the same server. */
import { bad, sessionOf } from '../control/arguments.ts'
import { Calls } from '../control/calls.ts'
import type { OnFault } from '../control/calls.ts'
import type { ResponderServiceServer } from '../control/gen/rolltape/responder/v1/responder.ts'
import { Link } from './link.ts'
import type { Responders } from './responders.ts'

/** The service over the queues of a process. */
export function responderService(responders: Responders, onFault: OnFault): ResponderServiceServer {
  const calls = new Calls(onFault)
  return {
    serve: calls.duplex((call, signal) => new Link(call, responders, signal).done),
    watchProcess: calls.unary(({ session, pid }) => {
      const id = sessionOf(session)
      if (pid <= 0) throw bad(`pid is ${pid}, and processes have ids from 1`)
      return { watched: responders.watchProcess(id, pid) }
    }),
  }
}
