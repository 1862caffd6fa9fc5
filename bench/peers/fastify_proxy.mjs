// @fastify/http-proxy, as its README starts it: fastify_proxy.mjs <port> <upstream port>
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(join(import.meta.dirname, '../.peers/package.json'))
const [port, upstream] = process.argv.slice(2)
const server = require('fastify')({ bodyLimit: 1 << 30 })
server.register(require('@fastify/http-proxy'), { upstream: `http://127.0.0.1:${upstream}` })
await server.listen({ port: Number(port), host: '127.0.0.1', backlog: 8192 })
