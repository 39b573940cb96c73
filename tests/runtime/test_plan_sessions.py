# SPDX-License-Identifier: Apache-2.0
"""Sessions of plans: their inputs and results belong to the caller; threads that share one find what one alone does."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from plan_made import RELU, RELU6, ROUNDED, Made, assert_near, random_plan

from cmr_runtime.plan.session import PlanSession, kernels

pytestmark = pytest.mark.skipif(not kernels(), reason="the compiled core is not built here, or switched off")


def test_results_are_the_callers() -> None:
    made = random_plan(3)
    session, feeds = made.session(), [made.feed(), made.feed(), made.feed()]
    found = [session.run(made.names(), feed) for feed in feeds]
    for ours, feed in zip(found, feeds, strict=True):
        assert_near(ours, made.wanted(feed))
    assert not any(np.shares_memory(a, b) for a, b in zip(found[0], found[1], strict=True))


def test_sessions_take_turns() -> None:
    plans = [random_plan(seed) for seed in (5, 11, 5)]
    sessions, feeds = [made.session() for made in plans], [made.feed() for made in plans]
    for _ in range(2):
        for made, session, feed in zip(plans, sessions, feeds, strict=True):
            assert_near(session.run(made.names(), feed), made.wanted(feed))


def test_inputs_of_other_forms_are_taken_and_left_as_they_are() -> None:
    made = Made((6, 5, 3), (6, 5, 4))
    made.output(made.conv(0, 9)).output(made.act(1, RELU))
    feed, session = made.feed(), made.session()
    wanted = session.run(made.names(), feed)
    turned = {name: np.asfortranarray(array.astype(np.float64)) for name, array in feed.items()}
    wide = {name: np.repeat(array, 2, axis=3)[..., ::2] for name, array in feed.items()}
    for given in (turned, wide):
        before = {name: array.copy() for name, array in given.items()}
        for ours, theirs in zip(session.run(made.names(), given), wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for name, array in given.items():
            np.testing.assert_array_equal(array, before[name])
    whole = {name: np.arange(array.size, dtype=np.float32).reshape(array.shape) for name, array in feed.items()}
    for array in whole.values():
        array.flags.writeable = False
    session.run(made.names(), whole)


def test_outputs_come_in_the_order_in_which_they_are_asked_for() -> None:
    made = Made((4, 4, 3))
    made.output(made.conv(0, 5)).output(made.conv(0, 6)).output(made.conv(0, 7))
    session, feed = made.session(), made.feed()
    found, again = session.run(made.names(), feed), session.run(["out2", "out0"], feed)
    np.testing.assert_array_equal(again[0], found[2])
    np.testing.assert_array_equal(again[1], found[0])
    assert session.run([], feed) == []


def test_what_a_session_says_of_itself() -> None:
    made = Made((4, 6, 3), (4, 6, 1))
    session: PlanSession = made.output(made.conv(0, 8), "blocks").output(1).session()
    inputs, outputs = session.get_inputs(), session.get_outputs()
    assert [(node.name, tuple(node.shape)) for node in inputs] == [("in0", (1, 3, 4, 6)), ("in1", (1, 1, 4, 6))]
    assert [(node.name, tuple(node.shape)) for node in outputs] == [("out0", (1, 2, 8, 12)), ("out1", (1, 1, 4, 6))]
    assert {node.type for node in (*inputs, *outputs)} == {"tensor(float)"}


@pytest.mark.parametrize("wrong", ["lacking", "smaller", "larger"])
def test_an_input_of_another_size_is_no_crash(wrong: str) -> None:
    made = Made((4, 6, 3))
    session = made.output(made.conv(0, 8)).session()
    size = {"smaller": (1, 3, 4, 5), "larger": (1, 3, 40, 6)}.get(wrong)
    feed = {} if size is None else {"in0": np.zeros(size, np.float32)}
    with pytest.raises((KeyError, ValueError, TypeError)):
        session.run(made.names(), feed)


# Threads


def repeated(made: Made, threads: int, times: int) -> None:
    """What threads find is the same each time, to the last bit, and near what is wanted."""
    session, feed = made.session(threads=threads), made.feed()
    first = session.run(made.names(), feed)
    assert_near(first, made.wanted(feed), f"{threads} threads")
    for _ in range(times):
        for ours, theirs in zip(session.run(made.names(), feed), first, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("threads", [2, 3, 5, 16])
def test_threads_share_layers(threads: int) -> None:
    made = Made((64, 48, 3))
    first = made.conv(0, 24, stride=2, act=RELU6)
    light = made.depthwise(first, kernel=5, before=[-1, 1])
    block = made.block(light, 40, middle=112, light={"stride": 2}, act=RELU)
    half = made.block(block, 40, middle=300, light={"stride": 2})
    bare = made.conv(made.block(block, 40, before=RELU, add=half), 20, kernel=(1, 1))
    maps = made.act(bare, "sigmoid")
    rows = made.attend(maps, made.concat(block, maps))
    rows = made.linear(made.rows(made.gather(rows, 98, 9), 49), 60, act=RELU)
    made.output(made.pool(first)).output(maps, "blocks").output(rows, "rows").output(
        made.rows(made.slice(rows, 3, 6), 98)
    )
    made.output(made.act(made.linear(made.mean(half), 5), "sigmoid"), "row").output(bare)
    repeated(made, threads, 8)


@pytest.mark.parametrize("size", [(48, 2), (40, 1), (10, 10), (4, 5)])
@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_share_the_channels_of_a_block(size: tuple[int, int], threads: int) -> None:
    made = Made((*size, 16))
    made.output(made.block(0, 16, middle=400, add=0, act=[-1, 1], then=RELU))
    made.output(made.block(0, 112, middle=960, light={"kernel": 5, "stride": 2}))
    repeated(made, threads, 20)


def test_callers_of_several_threads_do_not_meet() -> None:
    plans = [random_plan(seed) for seed in (1, 2, 8)]
    feeds = [made.feed() for made in plans]

    def run(place: int) -> None:
        session = plans[place].session(threads=2)
        wanted = plans[place].wanted(feeds[place])
        for _ in range(30):
            assert_near(session.run(plans[place].names(), feeds[place]), wanted)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    made = Made((24, 24, 20))
    made.output(made.block(0, 40, middle=96))
    session, feed = made.session(threads=2), made.feed()
    wanted = session.run(made.names(), feed)[0]
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [session.run(made.names(), feed) for _ in iter(stop.is_set, True)])
    busy.start()  # a run may be under way when the process forks
    try:
        _fork(session, made, feed, wanted)
    finally:
        stop.set()
        busy.join()


def _fork(session: PlanSession, made: Made, feed: dict[str, np.ndarray], wanted: np.ndarray) -> None:
    for _ in range(8):
        child = os.fork()
        if child == 0:  # leaves without pytest's own end
            os._exit(0 if all((session.run(made.names(), feed)[0] == wanted).all() for _ in range(3)) else 1)
        assert os.waitpid(child, 0)[1] == 0
        np.testing.assert_array_equal(session.run(made.names(), feed)[0], wanted)


@pytest.mark.parametrize("bits", [32, *ROUNDED])
@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_written_beyond_the_memory_of_a_plan(seed: int, bits: int) -> None:
    """A thread's own memory, for rings, padded rows and rounded cells, comes last: too little shows behind it."""
    made = random_plan(seed)
    session = made.session(bits=bits)
    layers, numbers, memory, *rest = session._tables
    more = np.concatenate([memory, np.full(4096, 12345.0, np.float32)])
    session._tables = (layers, numbers, more, *rest)
    session.run(made.names(), made.feed())
    np.testing.assert_array_equal(more[memory.size :], 12345.0)
