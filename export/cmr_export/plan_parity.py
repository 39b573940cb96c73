# SPDX-License-Identifier: Apache-2.0
"""The compiled core's plan against ONNX Runtime, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmr_runtime.plan.session import PlanSession, kernels
from cmr_runtime.plan.steps import read_plan

from .graphs import open_graph
from .parity import Difference
from .plan import written

__all__ = ["plan_parity"]


def plan_parity(plan: Mapping[str, Any], graphs: Mapping[str, bytes], images: np.ndarray) -> dict[str, Difference]:
    """Compare a plan with the graphs that it was made of, on images (N, 3, S, S), normalised.

    The mesh stage is compared on what the prior's graph makes of them, a detector on the images in its own size.

    Returns
    -------
    dict
        `Difference` by output (``plan of prior.heatmaps``), as `parity.parity` gives it; empty without a core.
    """
    if not kernels():
        return {}
    plans = read_plan(written(plan), "the export")
    ours = [
        (kind, PlanSession(plans[kind], graphs[kind], kind, threads, kernel))
        for kind in plans
        for kernel in kernels()
        for threads in (1, 2)  # which add up in another order
    ]
    theirs = {kind: open_graph(graphs[kind]) for kind in {*plans, "prior"}}
    seen: dict[str, list[Difference]] = {}
    for image in images:
        names = [node.name for node in theirs["prior"].get_outputs()]
        known = {"image": image[None]}
        known |= dict(zip(names, theirs["prior"].run(names, known), strict=True))
        for kind, session in ours:
            outputs = [node.name for node in session.get_outputs()]
            feed = {node.name: _fitted(known[node.name], node.shape) for node in session.get_inputs()}
            pairs = zip(outputs, theirs[kind].run(outputs, feed), session.run(outputs, feed), strict=True)
            for name, expected, found in pairs:
                seen.setdefault(f"plan of {kind}.{name}", []).append(Difference.between(expected, found))
    return {
        name: Difference(float(np.max([d.largest for d in each])), float(np.mean([d.mean for d in each])))
        for name, each in seen.items()
    }


def _fitted(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Take the nearest cells where an image is of another size than a graph takes."""
    if values.shape == shape:
        return values
    rows, columns = (np.arange(size) * old // size for size, old in zip(shape[2:], values.shape[2:], strict=True))
    return np.ascontiguousarray(values[:, :, rows[:, None], columns])
