# SPDX-License-Identifier: Apache-2.0
"""What this processor can do: multiply-adds a second, and bytes a second from caches and from memory.

Each is the best of several tries, since a limit that an operator beats is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cmr_runtime.session import open_session

__all__ = ["Limits", "bandwidth", "cache_bytes", "measure_limits", "product_rate"]

#: Side of the matrices of the large product: 12 MB in all, 1.1 G multiply-adds.
LARGE = 1024

#: Caches where the system does not tell them, and the most that the arrays larger than all caches may take, bytes.
L2_BYTES, L3_BYTES, MOST_BYTES = 1 << 20, 32 << 20, 1 << 30

#: Shortest span that is timed, and how many are, of which the best counts.
SPAN_S, TRIES = 0.02, 15


@dataclass(frozen=True)
class Limits:
    """Limits of a processor on so many threads.

    Attributes
    ----------
    product, layer : float
        Float32 multiply-adds a second in a matrix product of ONNX Runtime: a large one, and one of a layer's shape.
    layer_shape : (int, int, int)
        m, k, n of that layer: (m, k) times (k, n).
    l2, weights, memory : float
        Bytes a second of sums of two arrays, reading and writing, which together are as large as half the L2 caches of
        the cores used; as the weights of all graphs; and four times all caches.
    l2_bytes, weights_bytes, memory_bytes : int
        These sizes.
    """

    product: float
    layer: float
    layer_shape: tuple[int, int, int]
    l2: float
    weights: float
    memory: float
    l2_bytes: int
    weights_bytes: int
    memory_bytes: int

    def seconds(self, multiply_adds: int, weights: int, activations: int) -> tuple[float, float]:
        """Least seconds for so many multiply-adds, and for so many bytes of weights and of activations.

        Weights come from where all the graphs' weights fit; activations were written just before, and count as if they
        lay in the L2 cache.
        """
        return multiply_adds / self.product, weights / self.weights + activations / self.l2


def measure_limits(threads: int, weights_bytes: int, layer: tuple[int, int, int]) -> Limits:
    """Measure this processor; takes about five seconds and up to a GiB of memory."""
    l2_bytes = threads * (cache_bytes(2) or L2_BYTES) // 2
    memory_bytes = min(MOST_BYTES, 4 * max(cache_bytes(3) or L3_BYTES, 2 * l2_bytes))
    return Limits(
        product=product_rate(LARGE, LARGE, LARGE, threads),
        layer=product_rate(*layer, threads),
        layer_shape=layer,
        l2=bandwidth(l2_bytes, threads),
        weights=bandwidth(weights_bytes, threads),
        memory=bandwidth(memory_bytes, threads),
        l2_bytes=l2_bytes,
        weights_bytes=weights_bytes,
        memory_bytes=memory_bytes,
    )


def product_rate(m: int, k: int, n: int, threads: int) -> float:
    """Multiply-adds a second of (m, k) times (k, n) in ONNX Runtime, the second factor constant as weights are."""
    random = np.random.default_rng(0)
    weights = numpy_helper.from_array(random.standard_normal((k, n), np.float32), "weights")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "weights"], ["y"])], "product", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_session(model.SerializeToString(), "matrix product", threads)
    feed = {"x": random.standard_normal((m, k), np.float32)}
    return m * k * n / _best(lambda: session.run(None, feed))


def bandwidth(size: int, threads: int) -> float:
    """Bytes a second, read and written, of c = a + b on float32 arrays of so many bytes in all, a part per thread."""
    count = max(1, size // (3 * 4 * threads))
    arrays = [[np.ones(count, np.float32) for _ in range(3)] for _ in range(threads)]
    moved = 3 * 4 * count * threads
    repeats = max(1, round(SPAN_S * 2e10 / moved))

    def add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
        for _ in range(repeats):
            np.add(a, b, out=c)

    with ThreadPoolExecutor(threads) as pool:
        return repeats * moved / _best(lambda: list(pool.map(lambda three: add(*three), arrays)))


def _best(run: Callable[[], object]) -> float:
    """Least seconds of a run, over tries that each repeat it until a span is long enough to time."""
    run()
    start = time.perf_counter()
    run()
    repeats = max(1, round(SPAN_S / max(time.perf_counter() - start, 1e-9)))
    best = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        best = min(best, (time.perf_counter() - start) / repeats)
    return float(best)


def cache_bytes(level: int, folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    """Size of the first core's data cache of a level as Linux tells it, None elsewhere."""
    for entry in sorted(folder.glob("index*")):
        try:
            kind, found = ((entry / name).read_text("ascii").strip() for name in ("type", "level"))
            if kind != "Instruction" and found == str(level):
                text = (entry / "size").read_text("ascii").strip()
                return int(text.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
        except (OSError, ValueError):
            continue
    return None
