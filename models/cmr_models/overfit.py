# SPDX-License-Identifier: Apache-2.0
"""Whether a network can learn at all: it learns a few rendered hands by heart, from random weights.

    python -m cmr_models.overfit cmr_pg_resnet18 --size 64
    python -m cmr_models.overfit all --plot curves.png

One with a wrong gradient, a wrong gather or a dead branch does not get there.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batches import Sample, collate
from .by_name import make_objective, network_names
from .hand import load_hand
from .objective import Objective
from .synth.engine import Engine, compose

__all__ = ["LIMIT_MM", "Point", "few_hands", "main", "overfit", "plot"]

#: Mean distance of vertices, millimetres, that a network must come under, and at which training need not go on.
LIMIT_MM, ENOUGH_MM = 3.0, 2.5
#: Steps from one point of the curve to the next.
EVERY = 25
#: Grey of the plain backgrounds.
GREY = 200
WARM_UP, CLIP = 10, 1.0
#: Learning rates by family: spirals of hundreds of channels take small steps, keypoints behind clipped layers middling.
RATES = {"handnet": 3e-3, "mobrecon": 1e-3, "cmr": 3e-4, "ytbhand": 3e-4}
#: Share of the steps in which batch norm takes the batch's statistics; then they stay fixed, as in evaluation.
MOVING = 0.2


class Point(NamedTuple):
    """One point of a curve."""

    step: int
    loss: float
    millimetres: float  # mean distance of root-relative vertices, in evaluation mode


def few_hands(count: int, size: int, seed: int = 0) -> dict[str, Tensor]:
    """Render hands on a plain background: a batch as `batches.collate` makes it."""
    hands = Engine(load_hand(), size, seed=seed).render(count)
    images = compose(hands.rgba, torch.full((size, size, 3), GREY, dtype=torch.uint8))
    fields = (images, hands.keypoints, hands.silhouette, hands.vertices)
    samples = [Sample(*(array.numpy() for array in each), present=True) for each in zip(*fields, strict=True)]
    return collate(samples, images)


@torch.no_grad()
def vertex_error(objective: Objective, batch: dict[str, Tensor]) -> float:
    """Mean distance of root-relative vertices, millimetres, in evaluation mode."""
    found = objective.vertices(objective.net.eval(), batch["image"])
    return 1000 * float((found - batch["vertices"]).norm(dim=-1).mean())


@torch.no_grad()
def settle(objective: Objective, batch: dict[str, Tensor]) -> None:
    """Give all batch norms the statistics of the batch as their running ones."""
    norms = {m: m.momentum for m in objective.net.modules() if isinstance(m, _BatchNorm)}
    objective.net.train()
    for norm in norms:
        norm.momentum = 1.0
    objective.vertices(objective.net, batch["image"])
    for norm, momentum in norms.items():
        norm.momentum = momentum


def overfit(
    objective: Objective,
    batch: dict[str, Tensor],
    steps: int,
    rate: float,
    report: Callable[[Point], None] = lambda point: None,
) -> list[Point]:
    """Train a network on one batch over and over, by Adam with a cosine schedule.

    At first batch norm takes the batch's statistics; each point of the curve, and training from `MOVING` on, take fixed
    ones, so that most of it is spent on the very function that is evaluated.

    Returns
    -------
    list of Point
        The curve. It ends early at `ENOUGH_MM`.
    """
    net, curve = objective.net, []
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    for step in range(1, steps + 1):
        moving = step <= MOVING * steps
        if not moving and step - 1 <= MOVING * steps:  # the first of the others
            settle(objective, batch)
        net.train(moving)
        optimiser.param_groups[0]["lr"] = rate * min(step / WARM_UP, 0.51 + 0.49 * math.cos(math.pi * step / steps))
        loss = torch.stack(list(objective.losses(net, batch).values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()
        if step % EVERY == 0 or step == steps:
            if moving:
                settle(objective, batch)
            curve.append(Point(step, float(loss.detach()), vertex_error(objective, batch)))
            report(curve[-1])
            if curve[-1].millimetres < ENOUGH_MM:
                break
    return curve


def check_plot(path: Path) -> None:
    """Refuse a file that `plot` cannot write, which a caller wants to know before the training.

    Raises
    ------
    ValueError
        If the folder is absent or closed, or the suffix is none of a picture.
    """
    if not (cv2.haveImageWriter(path.name) and os.access(path.parent, os.W_OK) and not path.is_dir()):
        raise ValueError(f"{path} cannot be written: give a name in .png or .jpg in a folder that is there")


def plot(path: Path, curves: Mapping[str, Sequence[Point]], width: int = 960, height: int = 540) -> None:
    """Draw the vertex errors over the steps, logarithmic from 1 to 100 mm, one line for each network.

    Raises
    ------
    ValueError
        As `check_plot` does.
    """
    check_plot(path)
    left, top, right, bottom = 60, 20, width - 240, height - 40
    last = max(point.step for curve in curves.values() for point in curve)
    image = np.full((height, width, 3), 255, np.uint8)

    def at(step: float, millimetres: float) -> tuple[int, int]:
        share = math.log10(min(max(millimetres, 1.0), 100.0)) / 2
        return round(left + (right - left) * step / last), round(bottom - (bottom - top) * share)

    write = partial(cv2.putText, image, fontFace=cv2.FONT_HERSHEY_SIMPLEX, fontScale=0.4, lineType=cv2.LINE_AA)
    for tick in (1, 3, 10, 30, 100):
        colour = (60, 60, 220) if tick == LIMIT_MM else (220, 220, 220)
        cv2.line(image, at(0, tick), at(last, tick), colour, 1)
        write(text=f"{tick} mm", org=(8, at(0, tick)[1] + 4), color=(0, 0, 0))
    write(text=f"{last} steps", org=(right - 60, bottom + 20), color=(0, 0, 0))
    for k, (name, curve) in enumerate(curves.items()):
        hue = np.uint8([[[180 * k // len(curves), 255, 170]]])
        colour = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        points = np.int32([at(point.step, point.millimetres) for point in curve])
        cv2.polylines(image, [points], False, colour, 2, cv2.LINE_AA)
        write(text=f"{name} {curve[-1].millimetres:.1f}", org=(right + 12, top + 20 + 20 * k), color=colour)
    cv2.imwrite(str(path), image)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check; return 0 if every network came under the limit, else 1."""
    parser = argparse.ArgumentParser(prog="cmr_models.overfit", description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=["all", *network_names()], metavar="NAME", help="name of a network, or all")
    parser.add_argument("--size", type=int, default=64, metavar="PX", help="side of the images, a multiple of 32")
    parser.add_argument("--steps", type=int, default=600, help="at most (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=8, help="hands (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the curves")
    args = parser.parse_args(argv)
    if args.samples < 2 or args.steps < 1:
        parser.error(f"--samples {args.samples} --steps {args.steps}: need at least 2 samples and 1 step")
    if args.plot:
        try:
            check_plot(args.plot)
        except ValueError as error:
            parser.error(str(error))

    def report(name: str, point: Point) -> None:
        print(f"{name} {point.step:4d}  loss {point.loss:8.3f}  vertices {point.millimetres:6.2f} mm", flush=True)

    batch = few_hands(args.samples, args.size, args.seed)
    curves: dict[str, list[Point]] = {}
    for name in network_names() if args.network == "all" else [args.network]:
        torch.manual_seed(args.seed)
        began = time.monotonic()
        try:
            objective = make_objective(name, args.size)
        except ValueError as error:
            parser.error(str(error))
        curves[name] = overfit(objective, batch, args.steps, RATES[name.split("_")[0]], partial(report, name))
        end, minutes = curves[name][-1], (time.monotonic() - began) / 60
        reached = "reached" if end.millimetres < LIMIT_MM else "missed"
        print(
            f"{name}: {end.millimetres:.2f} mm after {end.step} steps, {reached} {LIMIT_MM:g} mm, {minutes:.1f} min",
            flush=True,
        )
    if args.plot:
        plot(args.plot, curves)
    return int(any(not curve[-1].millimetres < LIMIT_MM for curve in curves.values()))


if __name__ == "__main__":
    sys.exit(main())
