# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy.optimize import minimize

from cmr_runtime.errors import InputError
from cmr_runtime.registration.solvers import OsqpSolver, make_solver


def closed_form(P, q, lower, upper):
    """Best of the nine ways in which the two bounded unknowns can be free, at the lower or at the upper bound."""
    best, best_value = None, np.inf
    for state in np.ndindex(3, 3):
        fixed = {2 + k: (lower[k], upper[k])[s - 1] for k, s in enumerate(state) if s}
        free = [k for k in range(4) if k not in fixed]
        x = np.zeros(4)
        for k, value in fixed.items():
            x[k] = value
        x[free] = np.linalg.solve(P[np.ix_(free, free)], -(q + P @ x)[free])
        value = 0.5 * x @ P @ x + q @ x
        if (x[2:] >= lower - 1e-12).all() and (x[2:] <= upper + 1e-12).all() and value < best_value:
            best, best_value = x, value
    return best


def programs(count=60):
    """Programs as registration makes them: stiff sideways, soft in depth, softest in scale, with or without bounds."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        depth = rng.uniform(0.2, 1.5)
        points = rng.normal(size=(21, 3)) * 0.05
        t = np.array([0.2, -0.1, 1.0]) * depth
        pixels = 500 * (points + t)[:, :2] / (points + t)[:, 2:]
        rows = np.zeros((2, 21, 4))
        rows[0, :, 0] = rows[1, :, 1] = 500 / (points + t)[:, 2]
        rows[:, :, 2] = -(pixels / (points + t)[:, 2:]).T
        rows[:, :, 3] = (500 * points[:, :2].T - pixels.T * points[:, 2]) / (points + t)[:, 2]
        rows = rows.reshape(-1, 4) / 2.0
        P = rows.T @ rows + np.diag([1e-2, 1e-2, 1e-2, 0.08**-2])
        q = rng.normal(size=42) @ rows - np.array([0, 0, 0, 0.08**-2])
        centre = np.array([depth, 1.0]) * rng.choice([1.0, 0.8, 1.3])
        reach = np.array([0.15 * depth, 0.24])
        yield P, q, centre - reach, centre + reach


@pytest.mark.parametrize("name", ["osqp", "daqp", "quadprog"])
def test_solvers_agree_with_the_closed_form(name):
    if name != "osqp":
        pytest.importorskip("qpsolvers")
        pytest.importorskip(name)
    solver = make_solver(name)
    active = 0
    for P, q, lower, upper in programs():
        exact = closed_form(P, q, lower, upper)
        x = solver.solve(P, q, lower, upper)
        assert np.abs(x - exact).max() < 1e-6
        active += bool((np.abs(exact[2:] - lower) < 1e-9).any() or (np.abs(exact[2:] - upper) < 1e-9).any())
    assert 10 < active < 50


def test_slsqp_agrees():
    solver = OsqpSolver()
    for P, q, lower, upper in programs(10):
        bounds = [(None, None), (None, None), *zip(lower, upper, strict=True)]
        start = np.array([0, 0, *(0.5 * (lower + upper))])
        scale = 1.0 / np.trace(P)
        found = minimize(
            lambda x, P=P, q=q, k=scale: k * (0.5 * x @ P @ x + q @ x),
            start,
            jac=lambda x, P=P, q=q, k=scale: k * (P @ x + q),
            method="SLSQP",
            bounds=bounds,
            options={"ftol": 1e-16, "maxiter": 1000},
        )
        x = solver.solve(P, q, lower, upper)
        assert 0.5 * x @ P @ x + q @ x <= found.fun / scale + 1e-6
        assert np.abs(x - found.x).max() < 1e-5


def test_result_does_not_depend_on_earlier_programs():
    used, fresh = OsqpSolver(), OsqpSolver()
    *others, last = programs(20)
    for program in others:
        used.solve(*program)
    assert np.array_equal(used.solve(*last), fresh.solve(*last))


def test_unknown_solver_is_named():
    with pytest.raises(InputError, match="nosuch"):
        make_solver("nosuch")


def test_missing_qpsolvers_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "qpsolvers", None)
    with pytest.raises(InputError, match=r"cmr-runtime\[bench\]"):
        make_solver("daqp")


def test_singular_program_is_refused():
    with pytest.raises(InputError, match="singular"):
        OsqpSolver().solve(np.zeros((4, 4)), np.zeros(4), -np.ones(2), np.ones(2))
