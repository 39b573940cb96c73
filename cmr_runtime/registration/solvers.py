# SPDX-License-Identifier: Apache-2.0
"""Solvers of the quadratic program: min ½ xᵀ P x + qᵀ x with lower ≤ (t_z, s) ≤ upper.

*P* spans many orders of magnitude (sideways position is known a hundred times better than depth), so every solver gets
the problem whitened: with ``P = L Lᵀ`` and ``y = Lᵀ x`` it becomes ``min ½ |y|² + (L⁻¹ q)ᵀ y`` with
``lower ≤ C L⁻ᵀ y ≤ upper``. As *x* ends in (t_z, s) and ``L⁻ᵀ`` is upper triangular, ``C L⁻ᵀ`` has three entries at
fixed places, and the Hessian never changes: OSQP is set up once for all hands.

Depth and scale go together almost exactly, so their two rows are almost parallel, and a first-order method such as OSQP
finds which bounds bind long before it finds where. Where one binds, `active_set` finishes exactly.
"""

from __future__ import annotations

import importlib
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import CmrError, InputError
from .linalg import inverse_factor
from .linalg import solve as solve_positive

__all__ = ["SINGULAR", "OsqpSolver", "QpsolversSolver", "Solver", "active_set", "make_solver"]

FloatArray = npt.NDArray[np.float64]


SINGULAR = (
    "the joints and keypoints do not determine a position (the normal matrix is singular or not finite); "
    "give joints that are spread in space, keypoints in pixels, and the camera of that image"
)


class Solver(Protocol):
    """Anything that solves the quadratic program of this module."""

    def solve(self, P: FloatArray, q: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """Return the minimiser x (4,) for P (4, 4), positive definite, q (4,) and bounds (2,) on (t_z, s)."""
        ...


def make_solver(name: str) -> Solver:
    """Return the solver called `name`: "osqp", or any that qpsolvers finds installed ("daqp", "quadprog", …)."""
    return OsqpSolver() if name == "osqp" else QpsolversSolver(name)


def _whiten(P: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return L⁻ᵀ (4, 4), upper triangular, and L⁻¹ q (4,)."""
    try:
        inverse = inverse_factor(P)
    except np.linalg.LinAlgError:
        raise InputError(SINGULAR) from None
    linear = inverse @ q
    if not np.isfinite(linear).all():
        raise InputError(SINGULAR)
    return inverse.T, linear


def active_set(
    P: FloatArray, q: FloatArray, lower: FloatArray, upper: FloatArray, guess: tuple[int, int] | None = None
) -> FloatArray:
    """Solve exactly, by trying which of t_z and s lie on a bound.

    Parameters
    ----------
    P, q, lower, upper
        As for `Solver.solve`.
    guess : (int, int), optional
        For t_z and s: −1 on the lower bound, 0 between, 1 on the upper. It is taken if it holds; otherwise the best of
        all nine ways is.
    """
    if guess is not None:
        x = _on_bounds(P, q, lower, upper, guess)
        slope = (P[2:] @ x + q[2:]) * guess  # a bound that holds x back: the cost falls beyond it
        if (x[2:] >= lower).all() and (x[2:] <= upper).all() and (slope <= 0.0).all():
            return x
    tried = [_on_bounds(P, q, lower, upper, (depth, scale)) for depth in (0, -1, 1) for scale in (0, -1, 1)]
    inside = [x for x in tried if (x[2:] >= lower).all() and (x[2:] <= upper).all()]
    return min(inside, key=lambda x: float(0.5 * x @ P @ x + q @ x))


def _on_bounds(P: FloatArray, q: FloatArray, lower: FloatArray, upper: FloatArray, way: tuple[int, int]) -> FloatArray:
    free = [0, 1] + [2 + k for k in (0, 1) if way[k] == 0]
    x = np.zeros(4)
    for k in (0, 1):
        if way[k]:
            x[2 + k] = upper[k] if way[k] > 0 else lower[k]
    x[free] = solve_positive(P[np.ix_(free, free)], -(q + P @ x)[free])
    return x


class OsqpSolver:
    """OSQP, set up once, updated per call, started from the unconstrained minimiser.

    The step size stays fixed and every solve starts afresh, so a result depends on its own problem only: not on the
    clock (as OSQP's adaptive step size does) nor on earlier calls. One object serves one thread.

    It is imported and set up for the first program, which with the compiled core few hands have: with SciPy's sparse
    matrices it takes as long to import as all else that a tracker needs.

    Raises
    ------
    CmrError
        From `solve`: OSQP cannot be imported.
    """

    @cached_property
    def _osqp(self) -> Any:
        try:
            import osqp
            from scipy.sparse import csc_matrix, eye
        except ImportError as error:
            raise CmrError(f"solver 'osqp': {error}; install cmr-runtime anew, with what it requires") from error
        constraints = csc_matrix((np.ones(3), np.array([0, 0, 1]), np.array([0, 0, 0, 1, 3])), shape=(2, 4))
        solver = osqp.OSQP()
        solver.setup(
            eye(4, format="csc"),
            np.zeros(4),
            constraints,
            -np.ones(2),
            np.ones(2),
            verbose=False,
            eps_abs=1e-8,
            eps_rel=1e-8,
            rho=10.0,
            adaptive_rho=False,
            scaling=0,
            check_termination=5,
            max_iter=500,
            polishing=False,
        )
        return solver

    def solve(self, P: FloatArray, q: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """See `Solver.solve`."""
        back, linear = _whiten(P, q)
        depth, scale = back[2], back[3]
        # Rows of the constraints are brought to length one; OSQP's own scaling is off.
        length = np.array([np.hypot(depth[2], depth[3]), scale[3]])
        entries = np.array([depth[2] / length[0], depth[3] / length[0], 1.0])
        self._osqp.update(q=linear, Ax=entries, l=lower / length, u=upper / length)
        self._osqp.warm_start(x=-linear, y=np.zeros(2))
        solution = self._osqp.solve(raise_error=False)
        binding = np.sign(solution.y).astype(int)
        if solution.info.status_val != 1:  # not solved to its tolerance
            return active_set(P, q, lower, upper)
        if binding.any():
            return active_set(P, q, lower, upper, (int(binding[0]), int(binding[1])))
        x: FloatArray = back @ solution.x
        return x


class QpsolversSolver:
    """Any solver behind ``qpsolvers.solve_qp``, which `pip install cmr-runtime[bench]` brings.

    Parameters
    ----------
    name : str
        The name that qpsolvers gives it.
    """

    def __init__(self, name: str) -> None:
        try:
            qpsolvers: Any = importlib.import_module("qpsolvers")
        except ImportError:
            raise InputError(
                f"solver={name!r} needs the package qpsolvers, which is not installed; "
                "pip install 'cmr-runtime[bench]', or use solver='osqp'"
            ) from None
        known = qpsolvers.available_solvers
        if name not in known:
            raise InputError(
                f"solver={name!r} is not available, expected 'osqp' or one of {sorted(known)}; "
                "install it (pip install 'cmr-runtime[bench]' brings daqp and quadprog) or choose another"
            )
        self._name = name
        self._qpsolvers = qpsolvers
        self._sparse = name not in qpsolvers.dense_solvers

    def solve(self, P: FloatArray, q: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """See `Solver.solve`."""
        back, linear = _whiten(P, q)
        rows = np.concatenate([back[2:], -back[2:]])
        bounds = np.concatenate([upper, -lower])
        length = np.sqrt(np.square(rows).sum(axis=1))
        hessian: Any = np.eye(4)
        constraints: Any = rows / length[:, None]
        if self._sparse:
            from scipy.sparse import csc_matrix

            hessian, constraints = csc_matrix(hessian), csc_matrix(constraints)
        y = self._qpsolvers.solve_qp(hessian, linear, constraints, bounds / length, solver=self._name)
        if y is None:
            raise CmrError(f"solver {self._name!r} found no solution; try solver='osqp'")
        x: FloatArray = back @ y
        return x
