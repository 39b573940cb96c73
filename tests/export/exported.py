# SPDX-License-Identifier: Apache-2.0
"""One export of the default network for all tests, with weights that leave no output near a constant."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import torch

from cmr_export.bundle import export
from cmr_export.parity import Difference
from cmr_models.network import HandNet, HandNetConfig, save_checkpoint
from cmr_models.network.staged import load_staged
from cmr_models.stages import StagedNetwork
from cmr_runtime.bundle import Bundle

sys.path.append(str(Path(__file__).parents[1] / "models"))  # the tests of the models share their network
from small_net import lively_net

CONFIG = HandNetConfig(mean=(0.4, 0.5, 0.6), std=(0.3, 0.25, 0.2))
#: What its maker says of the checkpoint.
ABOUT = {"step": 12, "licence": "MIT", "licence_text": "As you like it.", "sources": {"photos": "our own"}}
#: The weights that the package ships.
WEIGHTS = Path(__file__).parents[2] / "models" / "weights" / "hand.pt"


class OneExport(NamedTuple):
    """A network, its checkpoint, its bundle, and the parity that the export found."""

    net: HandNet
    staged: StagedNetwork
    checkpoint: Path
    bundle: Bundle
    differences: dict[str, Difference]


@functools.cache
def exported() -> OneExport:
    """Export once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="cmr_export_test_"))
    net, checkpoint = lively_net(config=CONFIG), folder / "lively.pt"
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):  # equal ones would be stored once
            torch.nn.init.normal_(parameter, std=0.05)
    save_checkpoint(checkpoint, net, about=json.dumps(ABOUT))
    done = export(checkpoint, folder / "hand.cmr")
    return OneExport(net, load_staged(checkpoint), checkpoint, done.bundle, done.differences)


def run_graph(graph: bytes, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a graph on those of the arrays that it takes; its outputs by name."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {v.name: feed[v.name] for v in session.get_inputs()}), strict=True))


def run_bundle(bundle: Bundle, image: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of both stages by name."""
    prior = run_graph(bundle.prior, {"image": image})
    return prior | run_graph(bundle.mesh, prior)
