/**
 * A responder in a process of its own that takes requests and says nothing, or only how an answer
 * begins: `node mute-responder.ts <address> <queue> [head]`. Prints each request's id.
 */
import { TestResponder } from './responder.ts'

const [, , address = '', queue, how] = process.argv
const responder = new TestResponder({ teardown: () => undefined }, address)
responder.onRequest = ({ id }) => {
  if (how === 'head') {
    responder.head(id)
    responder.chunk(id, ': it begins\n\n')
  }
  process.stdout.write(`${id}\n`)
}
await responder.hello(queue, 2)
process.stdout.write('ready\n')
