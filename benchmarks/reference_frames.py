# SPDX-License-Identifier: Apache-2.0
"""The reference in ``cmr-bench --peer reference``: its network in PyTorch, then registration in its manner, by frame.

The reference has neither detector nor tracker, and its checkpoints cannot be shipped. So our tracker finds the hands,
untimed; timed are the reference's network (CMR-PG on ResNet-18, random weights, on which time does not depend) on the
hand's crop and SLSQP on the mesh, joints and contour that our tracker gives for it. Cropping and tracing the contour,
which are in our times, are not in these.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cmr_runtime.bench.contestant import Contestant, arguments, compete

if TYPE_CHECKING:
    from cmr_runtime import HandMeshTracker

__all__ = ["ReferenceFrames", "SlsqpTask", "main", "slsqp_task"]

FloatArray = npt.NDArray[np.float64]

NETWORK = "cmr_pg_resnet18"


class SlsqpTask(NamedTuple):
    """Arguments of `SlsqpBaseline` in pixels of a crop."""

    vertices: FloatArray
    joints: FloatArray
    keypoints: FloatArray
    contour: FloatArray | None
    camera: FloatArray
    side: float


def slsqp_task(hand: Any, side: int) -> SlsqpTask:
    """Return what is to be solved for a hand, in its crop of `side` pixels."""
    to_crop = hand.roi.matrix(side)

    def moved(points: npt.ArrayLike) -> FloatArray:
        return np.asarray(points, np.float64) @ to_crop[:, :2].T + to_crop[:, 2]

    return SlsqpTask(
        hand.vertices_root.astype(np.float64),
        hand.joints_root.astype(np.float64),
        moved(hand.keypoints),
        moved(hand.silhouette) if len(hand.silhouette) else None,
        np.vstack([to_crop, [0.0, 0.0, 1.0]]) @ hand.camera.matrix,
        float(side),
    )


class ReferenceFrames(Contestant):
    """The reference's network and registration on the hands of our tracker; without a hand, the network alone."""

    packages = ("torch", "numpy", "scipy")

    def __init__(self, options: Namespace) -> None:
        import torch

        from benchmarks import reference_networks, registration_baselines
        from cmr_runtime import Camera

        self._options, self._torch = options, torch
        self._networks, self._solve = reference_networks, registration_baselines.SlsqpBaseline()
        self._camera = Camera.from_fov(60.0, options.width, options.height)

    def load(self) -> None:
        """Build the network."""
        options, networks = self._options, self._networks
        networks.import_reference(Path(options.clone))
        config, _ = networks.REFERENCES[NETWORK]
        self._torch.set_num_threads(options.threads)
        hierarchy = networks.MeshHierarchy.from_assets(Path(options.assets), config.joints)
        self._size, self._network = config.size, networks.reference_network(config, hierarchy)

    @cached_property
    def _tracker(self) -> HandMeshTracker:
        """Ours, made with the first frame: no part of the reference's start, though of its peak of memory."""
        from cmr_runtime import HandMeshTracker

        # Unsmoothed: keypoints and mesh are those of the frame itself.
        return HandMeshTracker(self._options.model, num_hands=self._options.num_hands, smoothing=False)

    def prepare(self, image: Any, seconds: float) -> list[tuple[Any, SlsqpTask | None]]:
        """Find the hands, and cut them out."""
        hands = self._tracker.track(image, self._camera, seconds)
        crops = [(hand.roi.crop(image, self._size), slsqp_task(hand, self._size)) for hand in hands]
        black = np.zeros((self._size, self._size, 3), np.uint8)
        return [
            (self._torch.from_numpy(crop.transpose(2, 0, 1)[None].astype(np.float32) / 255.0), task)
            for crop, task in crops or [(black, None)]
        ]

    def run(self, prepared: list[tuple[Any, SlsqpTask | None]]) -> dict[str, Any]:
        """Network, then registration, of each hand."""
        mesh = registration = 0.0
        with self._torch.no_grad():
            for crop, task in prepared:
                start = time.perf_counter()
                self._network(crop)
                between = time.perf_counter()
                if task is not None:
                    self._solve(*task)
                mesh += 1e3 * (between - start)
                registration += 1e3 * (time.perf_counter() - between)
        hands = sum(task is not None for _, task in prepared)
        return {"hands": hands, "stages": {"mesh": mesh, "registration": registration} if hands else {"mesh": mesh}}

    def tell(self, result: dict[str, Any]) -> dict[str, Any]:
        """Frames in which our tracker searched are not called so here: nothing of the search is timed."""
        return {**result, "detecting": False}

    def cut(self) -> None:
        """Forget."""
        self._tracker.reset()


def main(argv: Sequence[str] | None = None) -> int:
    """Compete."""
    parser = arguments()
    parser.add_argument("--clone", required=True)
    parser.add_argument("--assets", required=True)
    return compete(ReferenceFrames, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
