# SPDX-License-Identifier: Apache-2.0
"""Workers that speak the protocol of `cmr_runtime.bench.worker`, well or badly."""

import sys

from cmr_runtime.bench.worker import Worker

FAKE = """
import json, os, sys, time
mode = sys.argv[1]
print("a warning of a library", file=sys.stderr, flush=True)
if mode == "no import":
    print(json.dumps({"error": "ModuleNotFoundError: No module named 'ai_edge_litert'"}), flush=True)
    sys.exit(1)
if mode == "garbage":
    print("INFO: hello", flush=True)
print(json.dumps({"ready": True, "versions": {"fake": "1.0"}}), flush=True)
for line in sys.stdin:
    count = json.loads(line)["run"]
    if mode == "dies":
        print("segmentation of something", file=sys.stderr, flush=True)
        os._exit(3)
    if mode == "silent":
        time.sleep(60)
    answers = {"short": [1.0], "nan": [float("nan")] * count, "text": "soon", "negative": [-1.0] * count}
    print(json.dumps({"ms": answers.get(mode, [2.0] * count)}), flush=True)
"""


def fake_worker(mode: str, timeout: float = 20.0) -> Worker:
    return Worker([sys.executable, "-I", "-c", FAKE, mode], "fake", mend="mend it", timeout=timeout)


#: A contestant that takes 4 ms, finds a hand in all frames but the first of a video, and searches where it has none.
FRAMES = """
import json, os, sys, time
wrong = sys.argv[1] if sys.argv[1].startswith("wrong") else ""
cold = {} if wrong == "wrong cold" else {"import": 5.0, "load": 3.0, "first": 2.0}
print(json.dumps({"ready": True, "versions": {"fake": "1.0"}, "began": time.time(), "cold_start_ms": cold}), flush=True)
fresh = True
for line in sys.stdin:
    request = json.loads(line)
    fresh, samples = fresh or request.get("cut", False), []
    for number in request["frames"]:
        stages = {"mesh": 3.0} if not fresh else {"detect": 2.0}
        sample = {"ms": 4.0, "cpu_ms": 2.0, "hands": int(not fresh), "detecting": fresh, "stages": stages}
        samples.append(sample)
        fresh = False
    if wrong == "wrong sample":
        samples[0]["ms"] = 0.0
    if wrong == "wrong count":
        samples.pop()
    print(json.dumps({"samples": samples, "peak_memory_mb": 12.5}), flush=True)
"""
