# SPDX-License-Identifier: Apache-2.0
"""Steadier hands from a video: the size settles; then direction, depth and shape are filtered, each at its own rate.

Their errors differ: the direction to a hand is known to a pixel, its depth several times worse, and the shape lies
between them. Each has a filter of its own, whose cut-off rises when it lags, so that a hand at rest is steady and a
fast one does not drag behind. All run on timestamps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiled import core, taken
from .errors import InputError
from .results import Hand, changed
from .rig import Rig, norms
from .values import is_number

__all__ = ["DEFAULT_RATE", "AlphaBeta", "Smoother", "Smoothing"]

_Float = npt.NDArray[np.floating[Any]]

#: Frames a second assumed of a video without timestamps.
DEFAULT_RATE = 30.0
#: Seconds after which a hand that comes back is placed where it is seen, not drawn there from where it was.
GAP = 0.25
#: Least share of its pull on the depth that a frame keeps whose depth is unsure.
LEAST_PULL = 0.05
#: Share of a frame in what uncertainty is usual for a hand's depth.
USUAL = 0.1
#: Seconds in which a velocity fades that nothing confirms, because frames have no weight.
FADING = 0.03
#: Shortest time between frames that a velocity is taken from, seconds: over less, two errors make any velocity.
SHORT = 1.0 / 120.0
#: Farthest that a smoothed depth may be from the frame's own, as a logarithm: beyond it the filter has lost the hand.
ASTRAY = 0.4


@dataclass(frozen=True)
class Smoothing:
    """How much to smooth; the defaults were chosen on synthetic hands, see ``python -m benchmarks.tracking``.

    A cut-off is that of a hand at rest: lower is steadier. A gain raises it where the filter lags: higher lags less.

    Attributes
    ----------
    direction_cutoff, direction_gain : float
        Of the direction to the root, that is its place in the image; hertz, and hertz per metre a second of lag.
    depth_cutoff, depth_gain : float
        Of the root's depth; hertz, and hertz per share of the depth a second.
    shape_cutoff, shape_gain : float
        Of mesh and joints relative to the root; hertz, and hertz per metre a second.
    lag_cutoff : float
        Of the lag itself, hertz.
    settling : float
        Seconds of video over which size and bone lengths are averaged; until then over all there is. 0 leaves them as
        they are seen.

    Raises
    ------
    InputError
        A cut-off that is not above 0, another value below 0, or one that is not finite.
    """

    direction_cutoff: float = 1.0
    direction_gain: float = 200.0
    depth_cutoff: float = 2.0
    depth_gain: float = 26.0
    shape_cutoff: float = 1.0
    shape_gain: float = 70.0
    lag_cutoff: float = 5.0
    settling: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = is_number(value) and math.isfinite(value)
            if not number or value < 0 or (value == 0 and field.name.endswith("cutoff")):
                limit = "above 0 Hz" if field.name.endswith("cutoff") else "of 0 or more"
                raise InputError(f"{field.name} of Smoothing is {value!r}; give a finite number {limit}")


class AlphaBeta:
    """Filter of many points at once, each with a velocity of its own.

    A value is predicted from the one before and its velocity, and pulled towards what is seen by a share α; the
    velocity by β = α² / (2 − α) (Benedict and Bordner, 1962). α follows the lag, which is what remains of the
    differences between seen and predicted once their trembling is averaged out: at rest it is low, and in a turn that
    the prediction misses it rises, as a One-Euro filter's does with the speed (Casiez, Roussel and Vogel, CHI 2012).
    Where values lose weight the velocity fades, as they no longer correct where it leads.

    Parameters
    ----------
    cutoff : float
        Of a hand at rest, hertz.
    gain : float
        Hertz per unit of lag a second.
    lag_cutoff : float
        Of the lag, hertz.

    Attributes
    ----------
    state : (3, D, ...) array, or None
        Value, velocity and lag, which go on in their place; None before the first value.
    """

    def __init__(self, cutoff: float, gain: float, lag_cutoff: float) -> None:
        # Plain numbers, so that what is single stays single whatever kind of number the caller gives.
        self._cutoff, self._gain, self._lag_cutoff = float(cutoff), float(gain), float(lag_cutoff)
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next value is taken as it is."""
        self.state: _Float | None = None

    def __call__(self, seen: _Float, dt: float, pull: float = 1.0, unit: float = 1.0) -> _Float:
        """Filter the next value.

        Parameters
        ----------
        seen : (D, ...) array
            Points of D coordinates, by coordinate.
        dt : float
            Seconds since the value before, above 0.
        pull : float
            0 to 1: how much of its usual weight this value has.
        unit : float
            What 1 of the value is in the unit of the lag.

        Returns
        -------
        (D, ...) array
        """
        if self.state is None:
            self.state = np.zeros((3, *seen.shape), np.result_type(seen, np.float32))
            self.state[0] = seen
            return seen
        value, velocity, lag = self.state
        turn = 2.0 * math.pi * dt
        velocity *= math.exp((pull - 1.0) * dt / FADING)
        predicted = value + dt * velocity
        off = seen - predicted
        mean = turn * self._lag_cutoff
        mean /= 1.0 + mean
        lag[...] = (1.0 - mean) * lag + (mean / dt) * off
        turning = turn * self._cutoff + (turn * self._gain * unit) * norms(lag)
        alpha = turning * pull / (1.0 + turning)
        filtered: _Float = predicted + alpha * off
        value[...] = filtered
        velocity += (alpha * alpha / (max(dt, SHORT) * (2.0 - alpha))) * off
        return filtered

    def hold(self, seen: _Float, most: float) -> _Float:
        """Begin anew at ``most`` from what is seen, where the value (D,) is farther from it; return the value."""
        assert self.state is not None
        value, velocity, _ = self.state
        velocity[np.abs(value - seen) > most] = 0.0
        held: _Float = np.clip(value, seen - most, seen + most, out=value)
        return held


class Smoother:
    """Smooths one hand through a video.

    Parameters
    ----------
    settings : Smoothing
        How much.
    rig : Rig
        Of the network's mesh.
    spread : float
        Standard deviation of the hand's size over its mean as the registration assumes it. It is in the uncertainty of
        every depth alike, and so does not tell good frames from bad ones.
    mesh : bool
        Whether hands have vertices; else only the joints are smoothed.
    """

    def __init__(self, settings: Smoothing, rig: Rig, spread: float, mesh: bool = True) -> None:
        self._rig, self._variance, self._mesh, self._settling = rig, spread * spread, mesh, float(settings.settling)
        lag = settings.lag_cutoff
        self._direction = AlphaBeta(settings.direction_cutoff, settings.direction_gain, lag)
        self._depth = AlphaBeta(settings.depth_cutoff, settings.depth_gain, lag)
        self._shape = AlphaBeta(settings.shape_cutoff, settings.shape_gain, lag)
        # What keypoints show beyond the mesh is a matter of the image, like the shape.
        self._detail = AlphaBeta(settings.shape_cutoff, settings.shape_gain, lag)
        of = settings
        rates = of.direction_cutoff, of.direction_gain, of.depth_cutoff, of.depth_gain, of.shape_cutoff, of.shape_gain
        self._rates = (*rates, lag)
        self._time = -math.inf
        self._sight = 0.0
        self._lengths: _Float | None = None
        self._usual: float | None = None

    def __call__(self, hand: Hand, time: float) -> Hand:
        """Smooth the hand of the next frame.

        Parameters
        ----------
        hand : Hand
            As it was seen.
        time : float
            Seconds, greater than of the frame before.

        Returns
        -------
        Hand
            With vertices, joints, keypoints, translation and scale replaced; `registration` stays what was measured. As
            it was seen, if smoothing would put a joint behind the camera.
        """
        dt = time - self._time
        if dt > GAP:
            self._begin()
            dt = min(dt, GAP)
        self._time = time
        if core is not None and self._goes_on(hand):
            return self._in_core(hand, dt)

        root, z = hand.translation.astype(np.float32), float(hand.translation[2])
        points = np.ascontiguousarray(((hand.vertices if self._mesh else hand.joints) - root).T)
        # Size and distance together change nothing in the image: what the size gains, the distance does too.
        factor = self._settle(hand.joints.T, dt)
        joints, points = self._with_lengths(self._shape(factor * points, dt))
        seen = np.array([math.log(factor * z)])
        self._depth(seen, dt, self._pull(hand))
        depth = math.exp(self._depth.hold(seen, ASTRAY)[0])
        direction = self._direction(np.divide(hand.translation, z, dtype=np.float64), dt, unit=factor * z)
        metres = z / hand.camera.fx
        detail = self._detail((hand.keypoints - hand.camera.project(hand.joints)).T * metres, dt)

        translation: npt.NDArray[np.float64] = np.multiply(direction, depth, dtype=np.float64)
        root = translation.astype(np.float32)
        placed = joints.T + root
        if not placed[:, 2].min() > 0:  # a hand at the lens, drawn back through it
            self._begin()
            return hand
        return changed(
            hand,
            vertices=points.T + root if self._mesh else hand.vertices,
            joints=placed,
            keypoints=(hand.camera.project(placed) + detail.T / metres).astype(np.float32),
            translation=translation,
            scale=factor * hand.scale,
        )

    def _begin(self) -> None:
        """Take the next frame as it is seen."""
        for each in (self._direction, self._depth, self._shape, self._detail):
            each.reset()

    def _goes_on(self, hand: Hand) -> bool:
        """Whether the compiled core can take the hand on: it is known, and arrays are as the pipeline makes them."""
        shape, lengths = self._shape.state, self._lengths
        if shape is None or self._detail.state is None or self._rig.packed is None or not hand.translation[2] > 0:
            return False
        own = taken(shape, np.float32) and (lengths is None or taken(lengths, np.float32))
        points = hand.vertices if self._mesh else hand.joints
        single = np.float32
        return own and taken(points, single) and taken(hand.joints, single) and taken(hand.keypoints, single)

    def _in_core(self, hand: Hand, dt: float) -> Hand:
        """Do in one call of the compiled core what `__call__` does; after `_goes_on`."""
        assert core is not None
        assert self._rig.packed is not None
        vertices = hand.vertices if self._mesh else None
        shown = (
            None if vertices is None else np.empty_like(vertices),
            np.empty_like(hand.joints),
            np.empty_like(hand.keypoints),
            np.empty(3),
        )
        camera = hand.camera
        factor = core.smooth(
            *self._rig.packed,
            (*self._rates, dt, self._pull(hand), self._share(dt)),
            camera.pinhole,
            hand.translation.tolist(),
            (vertices, hand.joints, hand.keypoints),
            (self._direction.state, self._depth.state, self._detail.state, self._shape.state),
            self._lengths,
            shown,
        )
        if not factor:  # a hand at the lens
            self._begin()
            return hand
        return changed(
            hand,
            vertices=hand.vertices if shown[0] is None else shown[0],
            joints=shown[1],
            keypoints=shown[2],
            translation=shown[3],
            scale=factor * hand.scale,
        )

    def _settle(self, joints: _Float, dt: float) -> float:
        """Learn from the joints (3, J) of a frame how long the bones are; by what factor to enlarge the hand."""
        if not self._settling:
            return 1.0
        seen = self._rig.lengths(joints)
        if self._lengths is None:
            self._lengths, self._sight = seen, 1.0 / DEFAULT_RATE
        else:
            self._lengths = self._lengths + self._share(dt) * (seen - self._lengths)
        return float(self._lengths.sum() / max(seen.sum(), 1e-9))

    def _share(self, dt: float) -> float:
        """Which share of a frame's lengths is learnt: all frames count alike until `settling`."""
        share = dt / (self._sight + dt)
        self._sight = min(self._sight + dt, self._settling)
        return share

    def _with_lengths(self, points: _Float) -> tuple[_Float, _Float]:
        """Joints (3, J) and points relative to the root, with bones of the length that has settled."""
        rig = self._rig
        mesh = points if self._mesh else None
        joints = points if mesh is None else mesh @ rig.regressor
        if self._lengths is not None:
            joints, mesh = rig.stretch(joints, self._lengths, mesh)
        root = joints[:, rig.root, None]
        return joints - root, (joints if mesh is None else mesh) - root

    def _pull(self, hand: Hand) -> float:
        """How far to trust the depth of a frame beside that of other frames of the same hand."""
        fit = hand.registration
        own = max((fit.sigma[2] / fit.translation[2]) ** 2 - self._variance, 1e-8)
        if fit.bounds_active or not math.isfinite(own):
            return LEAST_PULL
        self._usual = own if self._usual is None else self._usual + USUAL * (own - self._usual)
        return float(min(max(self._usual / own, LEAST_PULL), 1.0))
