# SPDX-License-Identifier: Apache-2.0
"""What every network of this package can be taken apart into: two stages with named tensors, and the mesh they give.

Export, reports and parity know networks by these types alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

__all__ = ["Stage", "StagedNetwork"]


class Stage(nn.Module):
    """One graph of a bundle.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Names of the tensors, as in the bundle (see ARCHITECTURE.md). ``forward`` takes and returns them in this order;
        maps are probabilities, vertices are metres relative to the root joint.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the stage."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class StagedNetwork:
    """A trained network as the export sees it.

    Attributes
    ----------
    architecture : str
        Name of the architecture.
    prior, mesh : Stage
        In evaluation mode. The prior takes ``image``; the mesh stage takes some of the prior's outputs, by name.
    size : int
        Side S of the input, pixels.
    mean, std : tuple of 3 float
        Normalisation: (rgb / 255 - mean) / std.
    cell_centre : float
        Where in its cell a peak of a heat map lies, in cells: 0.5 if cell j covers pixels j S / H to (j + 1) S / H, 0
        if the network was trained with maps whose cell j stands for pixel position j S / H.
    template : ndarray (V, 3)
        Rest mesh, metres.
    faces : ndarray (F, 3)
        Triangles, counter-clockwise seen from outside.
    joint_regressor : ndarray (J, V) or None
        Joints from the mesh, in the order of the heat maps; None where its maker keeps it (the body's).
    joint_parents : ndarray (J,)
        Parent of each joint, the first is its own.
    root_joint : int
        The joint that is the mesh's origin.
    about : dict
        What the checkpoint says about itself: ``licence``, ``licence_text``, ``sources``, ``step``, if anything.
    """

    architecture: str
    prior: Stage
    mesh: Stage
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    cell_centre: float
    template: np.ndarray
    faces: np.ndarray
    joint_regressor: np.ndarray | None
    joint_parents: np.ndarray
    root_joint: int
    about: dict
