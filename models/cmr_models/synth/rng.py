# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on the seed only: drawn on the CPU, then moved to the device that renders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Rng"]


class Rng:
    """A seeded source of random tensors.

    Parameters
    ----------
    seed : int
        Any integer; `Rng(seed, stream)` with another stream gives independent numbers.
    stream : int
        Number of the stream, such as a chunk's index.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        self._generator = torch.Generator().manual_seed((seed * 1_000_003 + stream) & 0x7FFF_FFFF_FFFF_FFFF)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self._generator)

    def normal(self, *shape: int, sigma: float = 1.0) -> Tensor:
        """Gaussian with mean 0."""
        return sigma * torch.randn(shape, generator=self._generator)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers in [low, high)."""
        return torch.randint(low, high, shape, generator=self._generator)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Booleans, true with the probability."""
        return torch.rand(shape, generator=self._generator) < probability

    def choose(self, weights: Sequence[float] | Tensor, *shape: int) -> Tensor:
        """Draw indices by weight."""
        weights = torch.as_tensor(weights, dtype=torch.float32)
        count = int(torch.tensor(shape).prod()) if shape else 1
        return torch.multinomial(weights, count, replacement=True, generator=self._generator).reshape(shape)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in the logarithm, within [low, high)."""
        return torch.exp(self.uniform(float(torch.tensor(low).log()), float(torch.tensor(high).log()), *shape))

    def direction(self, *shape: int) -> Tensor:
        """Draw unit vectors (*shape, 3), uniform on the sphere."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)
