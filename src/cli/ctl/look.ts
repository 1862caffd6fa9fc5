/** `ctl upstreams` and `ctl explain`: what goes on at the upstreams, and in the recording. */
import { buffer } from 'node:stream/consumers'

import { Command } from 'commander'

import { ExplainRequestResponse, Upstream } from '../../control/gen/rolltape/control/v1/control.ts'
import { Table } from '../table.ts'
import { EXIT, printable, say, type Terminal } from '../terminal.ts'
import { addConnection, Connection, type ConnectionFlags } from './connection.ts'
import { sayJson } from './output.ts'

const UPSTREAMS = new Table([
  { title: 'UPSTREAM', width: 40 },
  { title: 'IN FLIGHT', width: 9, align: 'right' },
  { title: 'REQUESTS', width: 10, align: 'right' },
  { title: 'FAILURES', width: 8, align: 'right' },
  { title: 'LAST FAILURE', width: 60 },
])

interface ExplainFlags extends ConnectionFlags {
  readonly method: string
  readonly path: string
}

/** Makes `ctl upstreams`. */
export function upstreamsVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('upstreams').description(
    'List the upstreams: requests in flight, requests in all, failures, the last one',
  )
  return addConnection(command).action(async (flags: ConnectionFlags) => {
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const json = flags.json === true
        if (!json) say(terminal, UPSTREAMS.header())
        for (let pageToken = '', more = true; more; more = pageToken !== '') {
          const page = await to.call(to.client.listUpstreams, { pageSize: 0, pageToken })
          for (const upstream of page.upstreams) {
            if (json) sayJson(terminal, Upstream.toJSON(upstream))
            else say(terminal, upstreamRow(upstream))
          }
          pageToken = page.nextPageToken
        }
        return EXIT.done
      }),
    )
  })
}

/** Makes `ctl explain`. */
export function explainVerb(terminal: Terminal, finish: (code: number) => void): Command {
  const command = new Command('explain')
    .description(
      'Read a request body from stdin and tell what the recording that is replayed has for it, ' +
        'and if nothing, why. Exit code 0 when it is recorded, else 1',
    )
    .option('--method <method>', 'method of the request', 'POST')
    .option('--path <path>', 'path of the request', '/v1/chat/completions')
  return addConnection(command).action(async (flags: ExplainFlags) => {
    const { method, path } = flags
    const body = await buffer(process.stdin)
    finish(
      await Connection.use(flags, terminal, async (to) => {
        const reply = await to.call(to.client.explainRequest, { method, path, body })
        if (flags.json === true) sayJson(terminal, ExplainRequestResponse.toJSON(reply))
        else say(terminal, printable(reply.text))
        return reply.found ? EXIT.done : EXIT.failed
      }),
    )
  })
}

function upstreamRow({ baseUrl, inFlight, requests, failures, lastError }: Upstream): string {
  const last =
    lastError === undefined ? '-' : `${lastError.time?.toISOString()} ${lastError.message}`
  return UPSTREAMS.row([baseUrl, String(inFlight), String(requests), String(failures), last])
}
