# SPDX-License-Identifier: Apache-2.0
import gc
import subprocess
import sys
import threading
import time
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
from disc_bundle import draw_disc

from cmr_runtime import Bundle, Camera, CameraError, Hand, HandMeshTracker, InputError
from cmr_runtime.pipeline import Pipeline

W, HEIGHT = 160, 120
IMAGE = draw_disc(W, HEIGHT, 80, 60, 25)
PATIENCE = 20.0


class Results:
    """A consumer that keeps what it is given, and works on each result until told to go on."""

    def __init__(self, hold: bool = False) -> None:
        self.got: list[tuple[list[Hand], float, np.ndarray]] = []
        self._arrived = threading.Semaphore(0)
        self.go = threading.Event()
        if not hold:
            self.go.set()

    def __call__(self, hands: list[Hand], timestamp: float, image: np.ndarray) -> None:
        self.got.append((hands, timestamp, image))
        self._arrived.release()
        self.go.wait(PATIENCE)

    def wait(self) -> None:
        assert self._arrived.acquire(timeout=PATIENCE)


def _until_raised(tracker: HandMeshTracker, start: int) -> None:
    for frame in range(start, start + 1000):
        tracker.submit(IMAGE, timestamp=float(frame))
        time.sleep(0.01)


def test_results_come_with_their_frame(bundle: Bundle) -> None:
    results, camera = Results(), Camera.from_fov(50, W, HEIGHT)
    with HandMeshTracker(bundle, mode="live", on_result=results) as tracker:
        for frame in range(3):
            image = draw_disc(W, HEIGHT, 70 + frame, 60, 25)
            tracker.submit(image, camera, 0.1 * frame)
            image[:] = 0  # the caller's buffer may be used again at once
            results.wait()
        assert tracker.dropped == 0
    with HandMeshTracker(bundle) as video:
        for frame, (hands, timestamp, image) in enumerate(results.got):
            np.testing.assert_array_equal(image, draw_disc(W, HEIGHT, 70 + frame, 60, 25))
            assert timestamp == pytest.approx(0.1 * frame)
            (same,) = video.track(image, camera, timestamp)
            np.testing.assert_array_equal(hands[0].vertices, same.vertices)
            assert hands[0].track_id == same.track_id == 0


def test_a_slow_consumer_gets_the_newest_frame_and_the_rest_is_dropped(bundle: Bundle) -> None:
    results = Results(hold=True)
    with HandMeshTracker(bundle, mode="live", on_result=results) as tracker:
        tracker.submit(IMAGE, timestamp=0.0)
        results.wait()  # now the consumer is busy
        start = time.perf_counter()
        for frame in range(1, 51):
            tracker.submit(IMAGE, timestamp=float(frame))
        assert time.perf_counter() - start < 5.0
        assert tracker.dropped == 49
        results.go.set()
        results.wait()
    assert [timestamp for _, timestamp, _ in results.got] == [0.0, 50.0]


def test_without_timestamps_the_clock_counts(bundle: Bundle) -> None:
    results = Results()
    with HandMeshTracker(bundle, mode="live", on_result=results) as tracker:
        before = time.perf_counter()
        tracker.submit(IMAGE)
        results.wait()
    assert before <= results.got[0][1] <= time.perf_counter()


def test_frames_without_timestamps_follow_each_other_where_the_clock_of_the_system_is_coarse(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: stands)  # it moves every 16 ms on Windows
    with HandMeshTracker(bundle, mode="live", on_result=Results()) as tracker:
        for _ in range(3):
            tracker.submit(IMAGE)


def test_an_exit_in_the_consumer_reaches_the_caller_and_it_goes_on(bundle: Bundle) -> None:
    results = Results()

    def on_result(hands: list[Hand], timestamp: float, image: np.ndarray) -> None:
        results(hands, timestamp, image)
        if timestamp in (0.0, 5000.0):
            raise SystemExit(f"at {timestamp}")

    tracker = HandMeshTracker(bundle, mode="live", on_result=on_result)
    with pytest.raises(SystemExit, match=r"at 0\.0"):
        _until_raised(tracker, 0)
    tracker.submit(IMAGE, timestamp=5000.0)
    while 5000.0 not in [timestamp for _, timestamp, _ in results.got]:
        results.wait()
    with pytest.raises(SystemExit, match=r"at 5000\.0"):
        tracker.close()
    assert not tracker._worker._thread.is_alive()


def test_errors_of_the_consumer_and_of_the_worker_reach_the_caller_and_it_goes_on(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = threading.Semaphore(0)

    def on_result(hands: list[Hand], timestamp: float, image: np.ndarray) -> None:
        seen.release()
        if timestamp == 0.0:
            raise ValueError("no disk")

    tracker = HandMeshTracker(bundle, mode="live", on_result=on_result)
    with pytest.raises(ValueError, match="no disk"):
        _until_raised(tracker, 0)
    assert seen.acquire(timeout=PATIENCE)
    assert seen.acquire(timeout=PATIENCE)  # a later frame had its result
    monkeypatch.setattr(Pipeline, "placed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _until_raised(tracker, 2000)
    # The frame of the call that raised is looked at all the same, and fails as well.
    limit = time.perf_counter() + PATIENCE
    while tracker._worker._error is None and time.perf_counter() < limit:
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError):
        tracker.close()
    assert not tracker._worker._thread.is_alive()
    with pytest.raises(InputError, match="closed"):
        tracker.submit(IMAGE, timestamp=9001.0)


def test_what_a_caller_does_wrong_is_said_at_once(bundle: Bundle) -> None:
    with HandMeshTracker(bundle, mode="live", on_result=Results()) as tracker:
        with pytest.raises(InputError, match=r"submit\(\)"):
            tracker.track(IMAGE)
        with pytest.raises(InputError, match="shape"):
            tracker.submit(IMAGE[..., 0])
        with pytest.raises(CameraError, match="160×120"):
            tracker.submit(IMAGE, Camera.from_fov(60, 320, 240))
        tracker.submit(IMAGE, timestamp=1.0)
        with pytest.raises(InputError, match="must increase"):
            tracker.submit(IMAGE, timestamp=1.0)
    with HandMeshTracker(bundle) as video, pytest.raises(InputError, match=r"track\(\)"):
        video.submit(IMAGE)


@pytest.mark.parametrize("options", [{"mode": "live"}, {"mode": "live", "on_result": 3}, {"on_result": print}])
def test_results_go_to_a_function_in_mode_live_only(bundle: Bundle, options: dict) -> None:
    with pytest.raises(InputError, match="on_result"):
        HandMeshTracker(bundle, **options)


def test_reset_begins_another_video_and_close_ends_the_thread(bundle: Bundle) -> None:
    results = Results(hold=True)
    tracker = HandMeshTracker(bundle, mode="live", on_result=results)
    tracker.submit(IMAGE, timestamp=5.0)
    results.wait()
    tracker.submit(IMAGE, timestamp=6.0)
    tracker.reset()
    tracker.submit(IMAGE, timestamp=0.0)
    results.go.set()
    results.wait()
    assert [timestamp for _, timestamp, _ in results.got] == [5.0, 0.0]
    assert tracker.dropped == 1
    thread = tracker._worker._thread
    tracker.close()
    tracker.close()
    assert not thread.is_alive()


def test_a_consumer_may_close_the_tracker(bundle: Bundle) -> None:
    closed = threading.Event()

    def on_result(hands: list[Hand], timestamp: float, image: np.ndarray) -> None:
        tracker.close()
        closed.set()

    tracker = HandMeshTracker(bundle, mode="live", on_result=on_result)
    tracker.submit(IMAGE)
    assert closed.wait(PATIENCE)
    tracker._worker._thread.join(PATIENCE)
    assert not tracker._worker._thread.is_alive()
    tracker.close()


def test_a_tracker_in_each_thread(bundle: Bundle) -> None:
    images = [draw_disc(W, HEIGHT, 60 + 2 * k, 60, 25) for k in range(10)]

    def run() -> list[np.ndarray]:
        with HandMeshTracker(bundle) as tracker:
            return [tracker.track(image)[0].vertices for image in images]

    alone, found = run(), {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: run()})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for each in found.values():
        np.testing.assert_array_equal(each, alone)


@pytest.mark.parametrize("fails", [False, True])
def test_a_tracker_that_nobody_closed_is_freed_and_its_thread_ends(bundle: Bundle, fails: bool) -> None:
    came = threading.Event()

    class Consumer:
        """It holds the tracker that holds it."""

        def __init__(self) -> None:
            self.tracker = HandMeshTracker(bundle, mode="live", on_result=self.show)

        def show(self, hands: list[Hand], timestamp: float, image: np.ndarray) -> None:
            came.set()
            if fails:
                raise ValueError("never fetched")

    consumer = Consumer()
    thread, gone = consumer.tracker._worker._thread, ref(consumer.tracker)
    consumer.tracker.submit(IMAGE)
    assert came.wait(PATIENCE)
    del consumer
    limit = time.perf_counter() + PATIENCE
    while gone() is not None and time.perf_counter() < limit:  # it may still be on its way back from the consumer
        gc.collect()
    assert gone() is None
    thread.join(PATIENCE)
    assert not thread.is_alive()


_LEFT_OPEN = """
import sys, threading, time
import numpy as np
from cmr_runtime import HandMeshTracker
busy = threading.Event()
def show(hands, timestamp, image):
    busy.set()
    time.sleep(0.2)
    print("done", flush=True)
tracker = HandMeshTracker(sys.argv[1], mode="live", on_result=show)
tracker.submit(np.zeros((60, 80, 3), np.uint8))
busy.wait(20)
"""


def test_a_program_ends_after_the_frame_that_is_looked_at(bundle_path: Path) -> None:
    command = [sys.executable, "-c", _LEFT_OPEN, str(bundle_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
