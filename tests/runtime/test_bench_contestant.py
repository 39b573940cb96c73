# SPDX-License-Identifier: Apache-2.0
import io
import itertools
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cmr_runtime.bench import contestant
from cmr_runtime.bench.contestant import Contestant, MediaPipe, peak_memory_mb, play, serve


class Recorder(Contestant):
    """Notes what happens to it; a run takes 5 ticks of the clock, all else 1000."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.now = 0.0

    def load(self) -> None:
        self.log.append("load")

    def prepare(self, image: Any, seconds: float) -> Any:
        self.now += 1000.0
        return image

    def run(self, prepared: Any) -> Any:
        self.now += 5.0
        self.log.append(prepared)
        return prepared

    def tell(self, result: Any) -> dict[str, Any]:
        self.now += 1000.0
        return {"hands": result, "detecting": False, "stages": {}}

    def cut(self) -> None:
        self.log.append("cut")


def test_only_the_run_is_timed_and_the_lead_in_is_not_told() -> None:
    recorder = Recorder()
    request = {"lead_in": [9, 9], "cut": True, "frames": [0, 1]}
    samples = play(recorder, lambda n: n, request, lambda: 0.0, lambda: recorder.now, lambda: 0.5 * recorder.now)
    assert recorder.log == [9, 9, "cut", 0, 1]
    assert [sample["hands"] for sample in samples] == [0, 1]
    assert {(sample["ms"], sample["cpu_ms"]) for sample in samples} == {(5000.0, 2500.0)}


def test_requests_are_answered_and_bad_ones_refused() -> None:
    lines = ['{"frames": [3]}', '{"frames": [-1]}', '{"frames": ["a"]}', '{"run": 3}', "[]", "nonsense"]
    answers, times = io.StringIO(), itertools.count()
    serve(Recorder(), lambda n: n, lambda: next(times), io.StringIO("\n".join(lines)), answers)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert said[0]["samples"][0]["hands"] == 3
    assert [list(answer) for answer in said[1:]] == [["error"]] * 5


class FakeHands:
    """Finds a hand in every image that is not black."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def process(self, image: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(multi_hand_landmarks=["hand"] if image.any() else None)


def test_mediapipe_searches_after_a_frame_with_too_few_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = SimpleNamespace(solutions=SimpleNamespace(hands=SimpleNamespace(Hands=FakeHands)))
    monkeypatch.setitem(sys.modules, "mediapipe", hands)
    peer = MediaPipe(Namespace(system="lite", num_hands=1, width=4, height=2))
    peer.load()
    assert peer._hands.settings == {"static_image_mode": False, "max_num_hands": 1, "model_complexity": 0}

    def shown(level: int) -> tuple[int, bool]:
        said = peer.tell(peer.run(peer.prepare(np.full((2, 4, 3), level, np.uint8), 0.0)))
        return said["hands"], said["detecting"]

    assert [shown(level) for level in (1, 1, 0, 1, 1)] == [(1, True), (1, False), (0, False), (1, True), (1, False)]
    peer.cut()
    assert shown(1) == (1, True)


def test_memory_is_that_of_the_process_alone() -> None:
    if peak_memory_mb() is None:
        pytest.skip("this system does not tell")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import contestant; print(contestant.peak_memory_mb())"
    ballast = np.ones(40 * 2**20, np.uint8)  # of the parent
    folder = str(Path(contestant.__file__).parent)
    done = subprocess.run([sys.executable, "-S", "-c", code, folder], capture_output=True, text=True, check=True)
    assert 2 < float(done.stdout) < 60
    assert peak_memory_mb() > ballast.nbytes / 2**20
