# SPDX-License-Identifier: Apache-2.0
r"""Mean of the weights of two runs of the default network, of which one went on from the other.

    python -m cmr_models.average models/weights/hand.pt runs/next/model.pt mean.pt --share 0.6 --about about.json

Between such weights the losses hardly rise, and the mean errs less than either (Izmailov et al., Averaging Weights
Leads to Wider Optima and Better Generalization, UAI 2018). It says of itself what the second says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints import read_about
from .hand import load_hand
from .network.handnet import HandNet, load_checkpoint, save_checkpoint
from .network.taught import start_from, whole_matrix

__all__ = ["main", "mean"]

#: May be two factors, which mean nothing one by one: runs may have the same matrix in different ones.
_MATRIX = "mesh.global_features."


@torch.no_grad()
def mean(first: HandNet, second: HandNet, share: float) -> HandNet:
    """Return a network with ``share`` of the second's weights and the rest of the first's.

    Of a matrix in two factors it is the best of the same rank for the mean of the products.

    Raises
    ------
    ValueError
        Networks of different form, or a share beyond 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share}; need 0 to 1")
    if first.config != second.config:
        raise ValueError(f"the networks are {first.config} and {second.config}; need two of one form")
    whole = HandNet(replace(first.config, rank=None), load_hand())
    ours, theirs = _multiplied(first), _multiplied(second)
    whole.load_state_dict({k: v.lerp(theirs[k], share) if v.is_floating_point() else v for k, v in ours.items()})
    found = HandNet(first.config, load_hand())
    start_from(whole, found)
    return found.eval()


def _multiplied(net: HandNet) -> dict[str, Tensor]:
    """Weights, with factors multiplied."""
    weights = {name: value for name, value in net.state_dict().items() if not name.startswith(_MATRIX)}
    weight, bias = whole_matrix(net.mesh.global_features)
    return weights | {f"{_MATRIX}weight": weight, f"{_MATRIX}bias": bias}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the mean of two checkpoints."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.average", description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second (%(default)s)")
    parser.add_argument("--about", type=Path, help="JSON with licence, licence_text and sources, in place of its own")
    options = parser.parse_args(arguments)
    try:
        (one, _), (other, content) = load_checkpoint(options.first), load_checkpoint(options.second)
        net = mean(one, other, options.share)
        about = json.loads(content.get("about", "{}"))
        if options.about:
            about |= read_about(options.about, options.about.read_text())
    except (ValueError, OSError) as error:
        parser.error(str(error))
    of = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (options.first, options.second)]
    save_checkpoint(options.out, net, about=json.dumps({**about, "mean_of": of, "share": options.share}))


if __name__ == "__main__":
    main()
