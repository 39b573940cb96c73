# SPDX-License-Identifier: Apache-2.0
r"""Held-out figures of the default network: renderings with exact truth, photos with weak labels.

    python -m cmr_models.synth.bake data/held_out --count 2000 --seed 1000
    python -m cmr_models.validate models/weights/hand.pt --synth data/held_out --photos real.npz --count 2000

Its renderings are others than those of the training; of the photos those count that training keeps back.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from cmr_runtime.accuracy import impossible
from cmr_runtime.biomechanics import KNUCKLES
from cmr_runtime.finding import SCALE
from cmr_runtime.heatmaps import decode
from cmr_runtime.metrics import mean_distance, mpjpe, pa_mpjpe
from cmr_runtime.roi import Roi

from .batches import Mix, Photos, Renderings, Sample, mirror
from .last_frame import last_frames
from .network import HandNet, HandNetConfig, load_checkpoint, to_input
from .network.recall import recalled
from .recut import recut
from .synth.background import Backgrounds

__all__ = ["Validation", "main", "size_spread"]


class Validation:
    """A fixed set of samples without photographic augmentation, and the figures of a network on it."""

    def __init__(
        self, renderings: Renderings, photos: Path | None, config: HandNetConfig, count: int = 256, seed: int = 7
    ) -> None:
        self.config = config
        random, size = np.random.default_rng(seed), config.size
        backgrounds = Backgrounds(photos, seed, val=True)
        still = Mix(tracked=0.0, zoomed=0.0, softened=0.0)
        self.rendered = [
            renderings.sample(i, background, still, random)
            for i, background in enumerate(backgrounds.sample(min(count, len(renderings)), size))
        ]
        self.photos: list[Sample] = []
        if photos:
            held_out = Photos(photos, val=True)
            some = np.linspace(0, len(held_out) - 1, min(count, len(held_out))).astype(int)
            self.photos = [held_out.sample(int(i), size, None, random) for i in some]
        left = [Sample(s.image, s.keypoints, present=True) for s in [*self.rendered[::4], *self.photos[::4]]]
        for sample in left:
            mirror(sample)
        others = left + [Sample(image) for image in backgrounds.sample(count // 2, size)]
        # Mixed, since pictures without a hand recall the cues of one that is predicted with them.
        self.others = [others[k] for k in random.permutation(len(others))]

    @torch.no_grad()
    def _predict(self, net: HandNet, samples: list[Sample], last: bool = False) -> dict[str, np.ndarray]:
        names = ("joints", "vertices", "maps", "outlines", "present", "right")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        random = np.random.default_rng(0)
        for start in range(0, len(samples), 32):
            chunk = samples[start : start + 32]
            images = torch.from_numpy(np.stack([s.image for s in chunk])).to(net.joint_regressor.device)
            recall = None
            if last:
                drawn = last_frames([s.present for s in chunk], replace(Mix(), recalled=1.0, wrong=0.0), random)
                drawn = {name: value.to(images.device) for name, value in drawn.items()}
                recall = partial(recalled, source=drawn["source"], moved=drawn["moved"], chosen=drawn["recalled"])
            out = net(to_input(images, self.config), recall)
            parts["joints"].append((net.joint_regressor @ out.mesh.levels[0]).cpu().numpy())
            parts["vertices"].append(out.mesh.levels[0].cpu().numpy())
            parts["outlines"].append(out.mesh.silhouette[:, 0].cpu().numpy() > 0)
            parts["maps"].append(out.mesh.heatmaps.sigmoid().cpu().numpy())
            presence = out.mesh.presence if last else out.prior.presence
            parts["present"].append(presence[:, 0].cpu().numpy() > 0)
            parts["right"].append(out.prior.right[:, 0].cpu().numpy() > 0)
        return {k: np.concatenate(v) for k, v in parts.items()}

    def _closer(self, seen: np.ndarray, sample: Sample) -> Sample:
        """Cut a rendering again around the joints (J, 2) that were seen in it."""
        size = self.config.size
        roi = Roi.upright(seen, SCALE)
        matrix = roi.matrix(size)
        vertices, keypoints = recut(sample.vertices, sample.keypoints, sample.focal, size, matrix, size)
        silhouette = cv2.warpAffine(sample.silhouette, matrix, (size, size), flags=cv2.INTER_LINEAR)
        return Sample(roi.crop(sample.image, size), keypoints, silhouette, vertices, present=True)

    def run(self, net: HandNet) -> dict[str, float]:
        """Figures in millimetres and in pixels of a crop of 256; shares for presence, handedness and silhouette.

        ``synth_`` is of renderings as they were baked: hands lie in any direction. ``tracked_`` is of the same, cut
        again upright around the joints that the network saw, as the tracker looks at a hand. ``_vertex_mm`` is the mean
        distance of vertices where the root joints alone are laid on each other, ``_iou`` the intersection over union of
        the refined silhouette and the truth in its cells. ``_violations`` is the share of hands found of which a joint
        or a bone is anatomically not possible (`cmr_runtime.violations`), ``_truth_violations`` that of the true ones,
        in photos of the weak labels. ``_size_spread`` is that of palms (`size_spread`): an image does not tell a hand's
        size, and where it depends on the pose, the depth does.
        """
        figures: dict[str, float] = {}
        regressor = net.joint_regressor.cpu().numpy()
        right, present = [], []
        tracked: list[Sample] = []  # filled by the first round
        rounds = [("synth", self.rendered), ("photo", self.photos), ("tracked", tracked)]
        for name, samples in rounds + ([("recalled", tracked)] if net.config.recall else []):
            if not samples:
                continue
            got = self._predict(net, samples, name == "recalled")
            seen = [decode(maps, self.config.size)[0] for maps in got["maps"]]
            if name == "synth":
                tracked += [self._closer(points, s) for points, s in zip(seen, samples, strict=True)]
            pixels = [mean_distance(points, s.keypoints) for points, s in zip(seen, samples, strict=True)]
            figures[f"{name}_px256"] = float(np.mean(pixels)) * 256 / self.config.size
            truth = [s.world if s.vertices is None else regressor @ s.vertices for s in samples]
            pairs = list(zip(got["joints"], truth, strict=True))
            figures[f"{name}_pa_mm"] = 1000 * float(np.mean([pa_mpjpe(a, b) for a, b in pairs]))
            figures[f"{name}_root_mm"] = 1000 * float(np.mean([mpjpe(a, b) for a, b in pairs]))
            figures[f"{name}_size_spread"] = size_spread(got["joints"])
            if name != "synth":
                figures[f"{name}_violations"] = float(np.mean([impossible(hand, "right") for hand in got["joints"]]))
                figures[f"{name}_truth_violations"] = float(np.mean([impossible(hand, "right") for hand in truth]))
            if name != "photo":
                root = net.mesh.root[0].cpu().numpy()
                apart = got["vertices"] - np.stack([s.vertices - root @ s.vertices for s in samples])
                figures[f"{name}_vertex_mm"] = 1000 * float(np.linalg.norm(apart, axis=-1).mean())
                figures[f"{name}_iou"] = float(
                    np.mean([_iou(a, s) for a, s in zip(got["outlines"], samples, strict=True)])
                )
            if name == "tracked":
                figures["tracked_right"] = float(np.mean(got["right"]))
            elif name != "recalled":
                right += got["right"].tolist()
                present += got["present"].tolist()
        got = self._predict(net, self.others)
        shown = np.array([s.present for s in self.others])
        figures["right_seen_right"], figures["left_seen_left"] = (
            float(np.mean(right)),
            float(np.mean(~got["right"][shown])),
        )
        figures["hand_found"] = float(np.mean(present + got["present"][shown].tolist()))
        figures["empty_found"] = float(np.mean(got["present"][~shown]))
        if net.config.recall:
            got = self._predict(net, self.others, True)
            figures["hand_recalled"], figures["empty_recalled"] = (
                float(np.mean(got["present"][shown])),
                float(np.mean(got["present"][~shown])),
            )
        return {k: round(v, 4) for k, v in figures.items()}


def size_spread(joints: np.ndarray) -> float:
    """Return the standard deviation over hands (N, 21, 3) of the logarithm of the distance from wrist to knuckles."""
    palms = np.linalg.norm(joints[:, KNUCKLES] - joints[:, :1], axis=2).mean(1)
    return float(np.log(palms).std())


def _iou(found: np.ndarray, sample: Sample) -> float:
    """Intersection over union of a silhouette (M, M) and the cells of which the hand covers at least half."""
    cells = cv2.resize(sample.silhouette, found.shape[::-1], interpolation=cv2.INTER_AREA) >= 127.5
    return float((found & cells).sum() / max(1, (found | cells).sum()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.validate", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--synth", type=Path, required=True, help="folder of cmr_models.synth.bake")
    parser.add_argument("--photos", type=Path, help="file of cmr_models.real_crops")
    parser.add_argument("--size", type=int, metavar="PX", help="side of the images (default: the network's own)")
    parser.add_argument("--count", type=int, default=256, help="most renderings, and most photos (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        net, _ = load_checkpoint(options.checkpoint)
        config = replace(net.config, size=net.config.size if options.size is None else options.size)
    except ValueError as error:
        parser.error(str(error))
    validation = Validation(Renderings(options.synth, last=options.count), options.photos, config, options.count)
    print(f"{len(validation.rendered)} renderings, {len(validation.photos)} photos")
    for name, value in validation.run(net).items():
        print(f"{name:<24}{value:>10.4f}")


if __name__ == "__main__":
    main()
