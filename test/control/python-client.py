"""Calls the control API as a script of a rollout fleet would, with grpcio and nothing generated.

    python3 python-client.py <address>

Prints one line per call: the method, and the status or the length of the answer.
"""

import sys

import grpc

SERVICE = "/rolltape.control.v1.ControlService/"


def call(channel, path, request=b"", metadata=None):
    method = channel.unary_unary(path, lambda message: message, lambda message: message)
    try:
        return len(method(request, timeout=10, metadata=metadata)) > 0
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"


def main(address):
    with grpc.insecure_channel(address) as channel:
        print("Check", call(channel, "/grpc.health.v1.Health/Check"))
        for method in ["GetStatus", "GetConfig", "FlushRecording", "ListUpstreams"]:
            print(method, call(channel, SERVICE + method))
        # page_size -1, and a page_token that is none
        print("ListUpstreams", call(channel, SERVICE + "ListUpstreams", b"\x08" + b"\xff" * 9 + b"\x01"))
        print("ListUpstreams", call(channel, SERVICE + "ListUpstreams", b"\x12\x01x"))
        print("ExplainRequest", call(channel, SERVICE + "ExplainRequest"))
        watch = channel.unary_stream(SERVICE + "WatchExchanges", lambda m: m, lambda m: m)(b"")
        print("WatchExchanges", len(next(iter(watch))) > 0)
        watch.cancel()
        print("NoSuch", call(channel, SERVICE + "NoSuch").split(":")[0])
        print("Shutdown", call(channel, SERVICE + "Shutdown"))


main(sys.argv[1])
