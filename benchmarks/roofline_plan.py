# SPDX-License-Identifier: Apache-2.0
"""What the compiled core did: which graphs it runs by plans, and the time of every layer, run one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cmr_runtime import Bundle
from cmr_runtime.plan.session import PlanSession
from cmr_runtime.plan.steps import Graph, read_plan
from cmr_runtime.session import open_stage

from .roofline_turns import LEAST_S, Operator, middle

__all__ = ["ApartSession", "plans_in_use"]


def plans_in_use(bundle: Bundle, threads: int) -> dict[str, Graph]:
    """Plans of those graphs of a bundle that the runtime would run by one, here and now."""
    kinds = [kind for kind in ("prior", "mesh", "shallow", "detector") if getattr(bundle, kind) is not None]
    planned = [kind for kind in kinds if isinstance(open_stage(bundle, kind, threads)[0], PlanSession)]
    plans = read_plan(bundle.plan, bundle.source) if bundle.plan is not None and planned else {}
    return {kind: plans[kind] for kind in planned}


class ApartSession:
    """Runs the layers of a plan's session one by one, and keeps the times.

    The session may be one that runs as a whole, too: the caches then hold its weights but once.

    Attributes
    ----------
    spans : list of list of float
        Seconds of each layer, by run.
    empty : list of float
        Seconds of a call without a layer, by run.
    """

    def __init__(self, session: PlanSession) -> None:
        self._session = session
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self.spans: list[list[float]] = []
        self.empty: list[float] = []

    def run(self, names: Sequence[str], feeds: Mapping[str, npt.NDArray[np.float32]]) -> Sequence[Any]:
        """Run and keep the times; returns nothing."""
        seconds, empty = self._session.run_apart(feeds)
        self.spans.append(seconds)
        self.empty.append(empty)
        return []

    def timed(self, layers: Sequence[Operator], skip: int) -> tuple[list[Operator], float]:
        """Return layers with their times, and the seconds of a call, which are taken off; `skip` runs do not count."""
        call, spans = middle(self.empty[skip:]), zip(*self.spans[skip:], strict=True)
        seconds = (max(LEAST_S, middle(each) - call) for each in spans)
        return [dataclasses.replace(one, seconds=own) for one, own in zip(layers, seconds, strict=True)], call
