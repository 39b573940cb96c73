# SPDX-License-Identifier: Apache-2.0
"""What every network is made of: parameters, multiply-adds and outputs of its two stages, without running it.

    python -m cmr_models.summary
    python -m cmr_models.summary handnet cmr_pg_resnet18

Convolutions and matrix products count, for one image of the network's own size; gathers along spirals cost none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .by_name import DEFAULT, LITE, hand_config, network_names
from .hand import load_hand
from .network import HandNet
from .network.staged import MeshStage, PriorStage
from .paper.build import build
from .paper.config import paper_config
from .paper.hierarchy import MeshHierarchy
from .paper.staged import staged
from .stages import Stage

__all__ = ["StageSummary", "main", "measure", "summarise", "table"]


class StageSummary(NamedTuple):
    """Cost and outputs of one stage."""

    parameters: int  # that take part in the outputs
    multiply_adds: int
    outputs: dict[str, Tensor]  # without values where the stage has none


def measure(stage: Stage, inputs: Mapping[str, Tensor]) -> StageSummary:
    """Count one stage on the tensors that it takes from ``inputs``; on the meta device nothing is computed."""
    parameters = list(stage.parameters())
    with FlopCounterMode(display=False) as counter:
        outputs = stage(*(inputs[name] for name in stage.inputs))
    total = sum((out.sum() for out in outputs), torch.zeros((), device=outputs[0].device))
    # Both stages of a network may own all of its parameters: the graph knows which of them take part.
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    used = sum(p.numel() for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None)
    detached = (out.detach() for out in outputs)
    return StageSummary(used, counter.get_total_flops() // 2, dict(zip(stage.outputs, detached, strict=True)))


def summarise(name: str) -> tuple[int, dict[str, StageSummary]]:
    """Return the size of the images (pixels) and the summaries of both stages, by name of the network.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    with torch.device("meta"):
        if name in (DEFAULT, LITE):
            net = HandNet(hand_config(name), load_hand()).eval()
            size, prior, mesh = net.config.size, PriorStage(net), MeshStage(net)
        else:
            config, hierarchy = paper_config(name), MeshHierarchy.from_hand()
            network = staged(build(config, hierarchy), hierarchy, about={})
            size, prior, mesh = network.size, network.prior, network.mesh
        first = measure(prior, {"image": torch.zeros(1, 3, size, size)})
        return size, {"prior": first, "mesh": measure(mesh, first.outputs)}


def table(names: Iterable[str]) -> str:
    """Text table of some networks, two lines each."""
    lines = [f"{'network':24s}{'size':>5s}  {'stage':6s}{'parameters':>13s}{'multiply-adds':>15s}  outputs"]
    for name in names:
        size, stages = summarise(name)
        for stage, summary in stages.items():
            shapes = ", ".join(f"{key} {'x'.join(map(str, out.shape[1:]))}" for key, out in summary.outputs.items())
            cost = f"{summary.parameters:13,d}{summary.multiply_adds / 1e6:13.1f} M"
            lines.append(f"{name:24s}{size:5d}  {stage:6s}{cost}  {shapes}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="cmr_models.summary", description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NAME", help=f"of {', '.join(network_names())} (default: all)")
    args = parser.parse_args(argv)
    try:
        print(table(args.networks or network_names()))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
