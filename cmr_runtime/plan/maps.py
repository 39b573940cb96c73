# SPDX-License-Identifier: Apache-2.0
"""Maps between the layers of a plan: their shapes, which of them are parts of others, and where in memory they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["MOST", "PANEL", "Map", "filled", "place"]

#: Channels of a panel: every pixel's channels are filled up to whole panels.
PANEL = 16
#: Most values that a plan may take.
MOST = 1 << 27


def filled(channels: int) -> int:
    """Return a number of channels, filled up to whole panels."""
    return -(-channels // PANEL) * PANEL


@dataclass(eq=False)
class Map:
    """A slot: a map (h, w, c), channels last.

    Attributes
    ----------
    h, w, c : int
    array : int
        Of the caller's arrays the one in which it lies; -1 if it lies in memory.
    planar : bool
        It lies channels first, without filling.
    parent : Map or None
        The map that it is a part of, from value `offset` on.
    own_row : int
        Values from pixel to pixel, if not those of the parent.
    fixed : bool
        Something relies on where its values lie: it becomes no part of another map any more.
    sigmoid : bool
        Its values are still to be put through the logistic function.
    at : int
        Where it lies in memory, once all is placed.
    """

    h: int
    w: int
    c: int
    array: int = -1
    planar: bool = False
    parent: Map | None = None
    offset: int = 0
    own_row: int = 0
    fixed: bool = False
    sigmoid: bool = False
    at: int = -1

    def __post_init__(self) -> None:
        if min(self.h, self.w, self.c) < 1 or self.h * self.w * filled(self.c) > MOST:
            raise ValueError(f"a map of {self.h} x {self.w} cells and {self.c} channels")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.h, self.w, self.c

    @property
    def cells(self) -> int:
        """Pixels."""
        return self.h * self.w

    @property
    def row(self) -> int:
        """Values from pixel to pixel."""
        return self.own_row or (filled(self.c) if self.parent is None else self.parent.row)

    @property
    def size(self) -> int:
        """Values that it takes, if it is no part of another."""
        return self.cells * (self.c if self.planar else filled(self.c))

    def root(self) -> Map:
        """Return the map that it is a part of in the end."""
        return self if self.parent is None else self.parent.root()

    def start(self) -> int:
        """Return where it lies in memory."""
        return self.at if self.parent is None else self.parent.start() + self.offset

    def fixed_row(self) -> int:
        """Return `row` for something that relies on it: no map that this one is a part of becomes a part any more."""
        self.root().fixed = True
        return self.row

    def part(self, parent: Map, offset: int) -> bool:
        """Become a part of another map, if nothing speaks against it."""
        whole = self.c % PANEL == 0 or offset % parent.row + filled(self.c) == parent.row
        free = self.parent is None and not (self.fixed or self.planar or self.sigmoid) and self.array < 0
        if not free or not whole or offset % PANEL:
            return False
        self.parent, self.offset = parent, offset
        return True


def place(uses: Sequence[Iterable[Map]]) -> int:
    """Give each map its place in memory; maps that no layer needs at the same time may share one.

    Parameters
    ----------
    uses : sequence of iterable of Map
        What each layer reads and writes.

    Returns
    -------
    int
        Values of memory that they take together.
    """
    last: dict[int, int] = {}
    for time, maps in enumerate(uses):
        for each in maps:
            last[id(each.root())] = time
    taken: list[tuple[int, int, int]] = []  # first, end and last use of what lies in memory, by place
    total = 0
    for time, maps in enumerate(uses):
        for root in (each.root() for each in maps):
            if root.at >= 0 or root.array >= 0:
                continue
            taken = [entry for entry in taken if entry[2] >= time]
            root.at = 0
            for first, end, _ in taken:
                if root.at + root.size <= first:
                    break
                root.at = max(root.at, end)
            end = root.at + filled(root.size)
            taken = sorted([*taken, (root.at, end, last[id(root)])])
            total = max(total, end)
    return total
