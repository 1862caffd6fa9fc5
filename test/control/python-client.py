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
        return len(method(request, timeout=120, metadata=metadata)) > 0
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
        print("ReloadConfig", call(channel, SERVICE + "ReloadConfig"))
        # mode passthrough, session s; none at all; expected_generation 7
        print("SetMode", call(channel, SERVICE + "SetMode", b"\x08\x01\x12\x01s"))
        print("SetMode", call(channel, SERVICE + "SetMode"))
        print("SetMode", call(channel, SERVICE + "SetMode", b"\x08\x01\x48\x07"))
        load = channel.unary_stream(SERVICE + "LoadTape", lambda m: m, lambda m: m)
        try:
            print("LoadTape", len(list(load(b"\x0a\x05/none"))))
        except grpc.RpcError as error:
            print("LoadTape", error.code().name)
        print("UnloadTape", call(channel, SERVICE + "UnloadTape").split(":")[0])
        print("RotateRecording", call(channel, SERVICE + "RotateRecording"))
        print("SetPolicyVersion", call(channel, SERVICE + "SetPolicyVersion", b"\x0a\x02v1"))
        # drain
        print("PauseAdmission", call(channel, SERVICE + "PauseAdmission", b"\x08\x03"))
        print("PauseAdmission", call(channel, SERVICE + "PauseAdmission"))
        # hold, of model m
        print("PauseAdmission", call(channel, SERVICE + "PauseAdmission", b"\x08\x01\x12\x03\x12\x01m"))
        # of everything, which is paused once
        print("ResumeAdmission", call(channel, SERVICE + "ResumeAdmission", b"\x0a\x00"))
        print("ResumeAdmission", call(channel, SERVICE + "ResumeAdmission", b"\x0a\x00").split(":")[0])
        watch = channel.unary_stream(SERVICE + "WatchExchanges", lambda m: m, lambda m: m)(b"")
        print("WatchExchanges", len(next(iter(watch))) > 0)
        watch.cancel()
        print("NoSuch", call(channel, SERVICE + "NoSuch").split(":")[0])
        print("Shutdown", call(channel, SERVICE + "Shutdown"))


main(sys.argv[1])
