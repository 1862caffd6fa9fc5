"""A policy that takes its requests from rolltape and answers them there.

    pip install grpcio protobuf grpcio-tools
    python -m grpc_tools.protoc -I proto --python_out=. rolltape/responder/v1/responder.proto
    python responder.py 127.0.0.1:50051
"""

import json
import queue
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from rolltape.responder.v1 import responder_pb2 as pb

AT_ONCE = 8


def generate(messages):
    """Your model; it yields text piece by piece."""
    yield from ("You said: ", messages[-1]["content"])


def answer(request, body, say):
    try:
        asked = json.loads(body)
        stop = {"index": 0, "finish_reason": "stop"}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(generate(asked["messages"]))}
            whole = {"model": asked["model"], "choices": [{**stop, "message": message}]}
            say(answer=pb.Answer(id=request.id, body=json.dumps(whole).encode()))
            return
        say(head=pb.AnswerHead(id=request.id))
        chunks = [{"index": 0, "delta": {"content": text}} for text in generate(asked["messages"])]
        for choice in [*chunks, {**stop, "delta": {}}]:
            event = "data: " + json.dumps({"model": asked["model"], "choices": [choice]}) + "\n\n"
            say(chunk=pb.AnswerChunk(id=request.id, data=event.encode()))
        say(chunk=pb.AnswerChunk(id=request.id, data=b"data: [DONE]\n\n"))
        say(end=pb.AnswerEnd(id=request.id))
    except Exception as error:
        say(failure=pb.Failure(id=request.id, message=str(error)))


def main(address):
    said = queue.SimpleQueue()
    say = lambda **message: said.put(pb.ServeRequest(**message))
    say(hello=pb.Hello(queue="default", credits=AT_ONCE))
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(AT_ONCE) as threads:
        serve = channel.stream_stream(
            "/rolltape.responder.v1.ResponderService/Serve",
            request_serializer=pb.ServeRequest.SerializeToString,
            response_deserializer=pb.ServeResponse.FromString,
        )
        for told in serve(iter(said.get, None)):
            kind = told.WhichOneof("message")
            if kind == "request":
                request, body = told.request, told.request.body
            elif kind == "request_body":
                body += told.request_body.data
            elif kind in ("cancelled", "rejected", "session_ended"):
                print(kind, getattr(told, kind), file=sys.stderr)
            if kind in ("request", "request_body") and len(body) == request.body_bytes:
                threads.submit(answer, request, body, say)
        said.put(None)


main(sys.argv[1])
