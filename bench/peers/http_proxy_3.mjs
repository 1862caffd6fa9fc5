// http-proxy-3 with keep-alive upstreams: http_proxy_3.mjs <port> <upstream port>
import { Agent } from 'node:http'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(join(import.meta.dirname, '../.peers/package.json'))
const { createProxyServer } = require('http-proxy-3')
const [port, upstream] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true })
const proxy = createProxyServer({ target: `http://127.0.0.1:${upstream}`, agent })
proxy.on('error', (_error, _req, res) => res.destroy())
proxy.listen(Number(port), '127.0.0.1')
