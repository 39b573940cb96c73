# SPDX-License-Identifier: Apache-2.0
"""From a root-relative hand and what the image shows of it to a position in the camera.

1. 2D term alone: a closed-form start, then rounds of weighting and solving.
2. If a silhouette gives enough extents, both terms from there, blended (see `blend`), in two rounds of weighting.

Each round is a quadratic program with bounds on depth and scale. Its minimum without bounds has a closed form; only
where that leaves the bounds is there work for a solver. The compiled core needs none (`solve` of core/registration.c).

After Chen et al., CVPR 2021 (arXiv 2103.02845, section 3.3), who solve both terms with a general non-linear solver.

Reprojection does not change when hand and distance grow together, so nothing in the image moves the scale: it stays at
the prior's mean unless depth is on its bound, and the prior's spread enters the uncertainty of the depth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..compiled import core
from ..errors import InputError
from . import blend as blending
from .checks import Inputs, check_camera, check_inputs, check_length, check_pair, check_prior
from .constants import (
    DEPTH_BOUNDS,
    EDGE,
    LEAST_HAND_PX,
    LITTLE,
    MESH_ERROR,
    MESH_SHIFT,
    MIN_EXTENTS,
    NEAR,
    ROUNDS_1D,
    ROUNDS_2D,
    ROUNDS_BOTH,
    SETTLED,
    SPREADS,
)
from .extents import contour_extents, roughness
from .in_core import register_in_core, settings
from .linalg import inverse, load, solve
from .problem import Quadratic, offset, starting_point
from .result import Registration
from .scale import LENGTH_SPREAD
from .scale import hand_length as length_of
from .solvers import SINGULAR, Solver, make_solver
from .terms import ExtentTerm, JointTerm, Term

if TYPE_CHECKING:
    from ..camera import Camera

__all__ = ["Registrar"]

FloatArray = npt.NDArray[np.float64]


class Registrar:
    """Registration with a solver that is set up once. One object serves one thread.

    Each result depends on the inputs of its call alone, not on calls before it.

    Parameters
    ----------
    scale_prior : (float, float)
        Mean and standard deviation of the hand's size over the mesh's. A spread of 0 states that the scale is known.
    solver : str
        "osqp", or any that qpsolvers finds installed ("daqp", "quadprog", …). The compiled core asks none: there all
        programs have a closed form.
    blend : {"covariance", "paper", "silhouette"}
        How the 2D and the 1D term make one position, see `cmr_runtime.registration.blend`.
    depth_bounds : (float, float)
        Smallest and largest depth of the root, in metres.
    hand_length : float, optional
        Length of this person's hand in metres, from the crease of the wrist to the tip of the middle finger. It takes
        the place of `scale_prior`, for each mesh anew; the joints must be the 21 of this package.

    Raises
    ------
    InputError
        An option out of range, or a solver that is not installed.

    Examples
    --------
    >>> registrar = Registrar(scale_prior=(1.0, 0.08))
    >>> result = registrar(vertices, joints, keypoints, scores, contour, camera)  # doctest: +SKIP
    >>> camera_space = result.scale * vertices + result.translation  # doctest: +SKIP
    """

    def __init__(
        self,
        scale_prior: tuple[float, float] = (1.0, 0.08),
        solver: str = "osqp",
        *,
        blend: str = "covariance",
        depth_bounds: tuple[float, float] = DEPTH_BOUNDS,
        hand_length: float | None = None,
    ) -> None:
        if blend not in blending.BLENDS:
            raise InputError(f"blend={blend!r} is unknown, expected one of {blending.BLENDS}")
        nearest, farthest = check_pair("depth_bounds", depth_bounds, "(smallest, largest) in metres")
        if not 0.0 < nearest < farthest < math.inf:
            raise InputError(f"depth_bounds={depth_bounds} m, expected 0 < smallest < largest")
        self._length = check_length(hand_length)
        self._mean, self._spread = check_prior(*check_pair("scale_prior", scale_prior, "(mean, spread)"))
        self._blend = blend
        self._depth_bounds = (nearest, farthest)
        self._solver: Solver = make_solver(solver)
        self._depths = self._scales = (0.0, 0.0)
        self._settings = settings() if blend == "covariance" and core is not None else None
        if self._settings is None:
            load()  # not in the first frame

    def __call__(
        self,
        vertices: npt.ArrayLike,
        joints: npt.ArrayLike,
        keypoints: npt.ArrayLike,
        scores: npt.ArrayLike,
        silhouette: npt.ArrayLike | None,
        camera: Camera,
        cut: npt.ArrayLike | None = None,
        metric: bool = True,
    ) -> Registration:
        """Register one hand; see `cmr_runtime.registration.register`."""
        prior = self._prior(joints)
        if self._settings is not None and prior is not None:
            arrays = (vertices, joints, keypoints, scores, silhouette, cut)
            found = register_in_core(self._settings, arrays, camera, prior, self._depth_bounds, bool(metric))
            if found is not None:
                return found
        inputs = check_inputs(vertices, joints, keypoints, scores, silhouette, cut)
        try:
            return self._register(inputs, camera, bool(metric))
        except np.linalg.LinAlgError:
            raise InputError(SINGULAR) from None

    def _register(self, inputs: Inputs, camera: Camera, metric: bool) -> Registration:
        focal, centre = check_camera(camera)
        self._set_bounds(inputs)

        used = inputs.used
        points = np.ascontiguousarray(inputs.joints[used].T)
        seen = (inputs.keypoints[used] - centre).T
        scores_used = np.minimum(inputs.scores[used], 1.0)
        x = self._clip(starting_point(points, seen, scores_used, focal, self._mean))
        # The joints' extent in pixels if they were seen side on.
        hand_px = max(0.5 * (camera.fx + camera.fy) * inputs.span * self._mean / float(x[2]), LEAST_HAND_PX)

        joints = JointTerm(points, seen, scores_used, focal, hand_px)
        extents = self._extent_term(inputs, focal, centre, hand_px)
        x, quadratic = self._settle(joints, x, ROUNDS_2D)
        gap, weight = math.nan, 0.0
        if extents is not None:
            x, quadratic, gap, weight = self._with_extents(joints, extents, x, quadratic)
        level = joints.sigma if extents is None else math.sqrt(joints.sigma * extents.sigma)
        sigma = self._sigma(quadratic, x, level / hand_px, inputs.span)
        if not math.isfinite(float(x @ x) + float(sigma @ sigma)):
            raise InputError(SINGULAR)

        inliers = used.copy()
        inliers[used] = joints.inliers
        scale = float(x[3])
        return Registration(
            translation=x[:3].copy(),
            scale=scale,
            residual_2d=joints.rms,
            residual_1d=math.nan if extents is None else extents.rms,
            inliers=inliers,
            gap=gap,
            weight_1d=weight,
            sigma=sigma,
            bounds_active=_on_edge(float(x[2]), self._depths) or _on_edge(scale, self._scales),
            metric=metric,
        )

    def _with_extents(
        self, joints: JointTerm, extents: ExtentTerm, x: FloatArray, quadratic: Quadratic
    ) -> tuple[FloatArray, Quadratic, float, float]:
        """Return the position by both terms, its quadratic, the gap and the 1D term's weight."""
        x_2d = x
        if self._blend != "covariance":
            x_1d, quadratic_1d = self._settle(extents, x, ROUNDS_1D)
            gap = math.dist(x_1d[:3], x_2d[:3])
            weight = blending.paper_weight(gap) if self._blend == "paper" else 1.0
            both = ((1.0 - weight) * each + weight * other for each, other in zip(quadratic, quadratic_1d, strict=True))
            return (1.0 - weight) * x_2d + weight * x_1d, Quadratic(*both), gap, weight
        quadratic_1d = extents.linearise(x)
        for turn in range(ROUNDS_BOTH):
            if turn:
                quadratic, quadratic_1d = joints.reweight(x), extents.reweight(x)
            total = Quadratic(quadratic.P + quadratic_1d.P, quadratic.g + quadratic_1d.g)
            last, x = x, self._solve(total, x)
        gap = math.dist(self._solve(quadratic_1d, last)[:3], x_2d[:3])
        return x, total, gap, blending.information_share(quadratic.P, quadratic_1d.P)

    def _prior(self, joints: npt.ArrayLike) -> tuple[float, float] | None:
        """Return the scale prior; None where joints that are not checked yet give none."""
        if self._length is None:
            return self._mean, self._spread
        if not isinstance(joints, np.ndarray) or joints.dtype != np.float64 or joints.ndim != 2:
            return None
        try:
            return _prior_by_length(self._length, joints)
        except InputError:
            return None

    def _set_bounds(self, inputs: Inputs) -> None:
        if self._length is not None:
            self._mean, self._spread = _prior_by_length(self._length, inputs.joints)
        foremost = float(np.minimum.reduce(inputs.joints[:, 2]))
        if len(inputs.vertices):
            foremost = min(foremost, float(np.minimum.reduce(inputs.vertices[:, 2])))
        nearest, farthest = self._depth_bounds
        reach = SPREADS * self._spread
        nearest = max(nearest, NEAR - foremost * (self._mean + reach))
        self._depths = nearest, max(farthest, nearest + NEAR)
        self._scales = self._mean - reach, self._mean + reach

    def _clip(self, x: FloatArray) -> FloatArray:
        for k, (least, most) in ((2, self._depths), (3, self._scales)):
            x[k] = min(max(x[k], least), most)
        return x

    def _extent_term(self, inputs: Inputs, focal: FloatArray, centre: FloatArray, hand_px: float) -> ExtentTerm | None:
        if inputs.contour is None or len(inputs.contour) < 3 or len(inputs.vertices) < 3:
            return None
        seen = contour_extents(inputs.contour, inputs.cut, centre)
        if np.count_nonzero(seen.usable) < MIN_EXTENTS:
            return None
        vertices = np.ascontiguousarray(inputs.vertices.T)
        return ExtentTerm(vertices, seen, focal, hand_px, roughness(inputs.contour))

    def _settle(self, term: Term, x: FloatArray, rounds: int) -> tuple[FloatArray, Quadratic]:
        """Linearise and solve until the placement settles; return it and the quadratic around it."""
        for _ in range(rounds):
            quadratic = term.linearise(x)
            last, x = x, self._solve(quadratic, x)
            step = offset(x, last)
            slope = quadratic.P @ step
            if float(step @ slope) < SETTLED:
                break
        return x, Quadratic(quadratic.P, quadratic.g + slope)

    def _solve(self, term: Quadratic, x: FloatArray) -> FloatArray:
        """Minimise a term around x with the prior: in closed form, or by the solver where that leaves the bounds."""
        y = np.empty(4)
        y[:3] = x[:3] * (self._mean / x[3]) - solve(term.P + LITTLE, term.g)
        y[3] = self._mean
        if self._depths[0] <= y[2] <= self._depths[1]:
            return y
        information = self._spread**-2
        rows = np.column_stack([np.eye(3), x[:3] / -x[3]])  # of `offset`, which is linear in t and s
        P = rows.T @ (term.P + LITTLE) @ rows
        P[3, 3] += information
        q = term.g @ rows
        q[3] -= self._mean * information
        lower, upper = np.array([self._depths, self._scales]).T
        return self._clip(self._solver.solve(P, q, lower, upper))

    def _sigma(self, term: Quadratic, x: FloatArray, misfit: float, span: float) -> FloatArray:
        """Return standard deviations of the translation (3,) from the term, the scale and the mesh's own error."""
        common = x[:3] * math.hypot(self._spread / float(x[3]), MESH_ERROR * misfit)
        shift = MESH_SHIFT * misfit * span
        sigma: FloatArray = np.sqrt(inverse(term.P + LITTLE).diagonal() + np.square(common) + shift * shift)
        return sigma


def _prior_by_length(length: float, joints: FloatArray) -> tuple[float, float]:
    mean = length / max(length_of(joints), 1e-9)
    return check_prior(mean, LENGTH_SPREAD * mean, "the scale by hand_length")


def _on_edge(value: float, bounds: tuple[float, float]) -> bool:
    return not bounds[0] + EDGE < value < bounds[1] - EDGE
