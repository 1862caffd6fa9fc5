#!/usr/bin/env python3
"""Reads a rolltape recording with Python's standard library alone.

    python3 docs/read_records.py runs/a.jsonl

prints one JSON line per session: exchanges, turns, failures, sampled tokens, the sum of their
log-probs. As a module, `read_records(path)` yields the records by arrival of one file after the
other; `sampled_tokens(record)` gives what the policy sampled, choice by choice.
"""

import glob
import json
import re
import sys


def parts_of(path):
    """The closed parts of a recording (`a.000001.jsonl`, ...), then the file itself."""
    stem = re.sub(r"\.jsonl$", "", path)
    closed = [p for p in glob.glob(glob.escape(stem) + ".*.jsonl")
              if re.fullmatch(r"\.\d{6,}\.jsonl", p[len(stem):])]
    return sorted(closed, key=lambda p: int(p[len(stem) + 1:-len(".jsonl")])) + [path]


def read_records(path):
    """Yields the records of a recording. A last line that is torn is none."""
    for part in parts_of(path):
        with open(part, encoding="utf-8") as lines:
            for line in lines:
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except ValueError:
                    if line.endswith("\n"):
                        raise


def sampled_tokens(record):
    """Yields (ids, log-probs) for each choice whose ids are all known."""
    for choice in record.get("tokens") or []:
        ids = choice["token_ids"]
        if ids and None not in ids:
            yield ids, choice["logprobs"] or [None] * len(ids)


def main(path):
    sessions = {}
    for record in read_records(path):
        session = sessions.setdefault(record["session"], {
            "session": record["session"], "exchanges": 0, "turns": 0, "failed": 0,
            "tokens_sampled": 0, "logprob_sum": 0.0,
        })
        session["exchanges"] += 1
        session["turns"] += record["turn"] is not None
        session["failed"] += record["status"] != "success"
        for ids, logprobs in sampled_tokens(record):
            session["tokens_sampled"] += len(ids)
            session["logprob_sum"] += sum(p for p in logprobs if p is not None)
    for session in sessions.values():
        print(json.dumps(session))


if __name__ == "__main__":
    main(*sys.argv[1:])
