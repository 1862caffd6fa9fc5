"""A proxy as the Python recorders of this field are built: FastAPI, httpx, uvicorn, one process.

    fastapi_proxy.py pass|trace <port> <upstream port>

`pass` forwards what comes, chunk by chunk. `trace` reads the request's JSON, reads streams line by
line, parses each event, puts the answer together and appends one line to a trace file.
"""

import json
import sys
import tempfile
import time

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

WHAT, PORT, UPSTREAM = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
HOP = {"host", "content-length", "transfer-encoding", "connection", "keep-alive"}

app = FastAPI()
client = httpx.AsyncClient(
    base_url=f"http://127.0.0.1:{UPSTREAM}",
    timeout=600,
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
)
trace = tempfile.TemporaryFile("w")


def keep(headers):
    return {name: value for name, value in headers.items() if name.lower() not in HOP}


def write(request, response, started):
    record = {"request": request, "response": response, "start": started, "end": time.time()}
    trace.write(json.dumps(record) + "\n")
    trace.flush()


async def traced(upstream, request, started):
    text = []
    async for ended in upstream.aiter_lines():
        line = ended.rstrip("\r\n")
        if line.startswith("data: ") and line != "data: [DONE]":
            event = json.loads(line[6:])
            text.append(event["choices"][0]["delta"].get("content") or "")
        yield line + "\n"
    await upstream.aclose()
    write(request, {"content": "".join(text)}, started)


async def passed(upstream):
    async for chunk in upstream.aiter_raw():
        yield chunk
    await upstream.aclose()


@app.post("/{path:path}")
async def proxy(path: str, request: Request):
    started = time.time()
    body = await request.body()
    parsed = json.loads(body) if WHAT == "trace" else None
    target = f"/{path}?{request.url.query}" if request.url.query else f"/{path}"
    built = client.build_request("POST", target, headers=keep(request.headers), content=body)
    upstream = await client.send(built, stream=True)
    if upstream.headers.get("content-type", "").startswith("text/event-stream"):
        chunks = traced(upstream, parsed, started) if WHAT == "trace" else passed(upstream)
        return StreamingResponse(chunks, upstream.status_code, keep(upstream.headers))
    answer = await upstream.aread()
    await upstream.aclose()
    if WHAT == "trace":
        write(parsed, json.loads(answer), started)
    return Response(answer, upstream.status_code, keep(upstream.headers))


uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False, backlog=8192)
