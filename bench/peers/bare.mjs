// What node:http costs by itself: reads a POST, answers 1 KB. bare.mjs <port>
import { createServer } from 'node:http'

const FRONT =
  '{"id":"bench","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"'
const BACK = '"},"finish_reason":"stop"}]}'
const body = Buffer.from(FRONT + 'y'.repeat(1024 - FRONT.length - BACK.length) + BACK)
const head = ['content-type', 'application/json', 'content-length', String(body.length)]
createServer((req, res) => {
  const parts = []
  req.on('data', (part) => parts.push(part))
  req.on('end', () => res.writeHead(200, head).end(body))
}).listen(Number(process.argv[2]), '127.0.0.1', 8192)
