# SPDX-License-Identifier: Apache-2.0
"""Batch norm folded into the layer in front of it: in inference both are one affine map."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

__all__ = ["fold_batch_norm"]

Net = TypeVar("Net", bound=nn.Module)


def _fused(layer: nn.Module, norm: nn.Module) -> nn.Module | None:
    """Return one layer for the two, or None if they are no such pair."""
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_mean is None or norm.weight is None:
        return None  # without running statistics it normalises by the batch; PyTorch fuses none without scale
    if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        return fuse_linear_bn_eval(layer, norm)
    return None


def fold_batch_norm(net: Net) -> Net:
    """Fold each batch norm that follows a convolution or a linear layer inside an `nn.Sequential`.

    An exporter folds what stands behind a convolution, but leaves what stands behind a linear layer.

    Parameters
    ----------
    net : nn.Module
        Any network; a linear layer in front of a batch norm takes vectors (B, C). It is not changed.

    Returns
    -------
    nn.Module
        A copy in evaluation mode. Folded batch norms are identities there, so that positions stay what they were.
    """
    net = copy.deepcopy(net).eval()
    for row in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        for k in range(len(row) - 1):
            if (layer := _fused(row[k], row[k + 1])) is not None:
                row[k], row[k + 1] = layer, nn.Identity()
    return net
