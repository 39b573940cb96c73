# SPDX-License-Identifier: Apache-2.0
"""The one-call form of `Registrar`."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import numpy.typing as npt

from .checks import check_length, check_pair
from .registrar import Registrar
from .result import Registration

if TYPE_CHECKING:
    from ..camera import Camera

__all__ = ["register"]


def register(
    vertices: npt.ArrayLike,
    joints: npt.ArrayLike,
    keypoints: npt.ArrayLike,
    scores: npt.ArrayLike,
    silhouette: npt.ArrayLike | None,
    camera: Camera,
    *,
    scale_prior: tuple[float, float] = (1.0, 0.08),
    solver: str = "osqp",
    cut: npt.ArrayLike | None = None,
    metric: bool = True,
    hand_length: float | None = None,
) -> Registration:
    """Place a root-relative hand in the camera, from its keypoints and its silhouette.

    Parameters
    ----------
    vertices : (V, 3) array
        Root-relative mesh in metres, in the camera's orientation; any V.
    joints : (J, 3) array
        Root-relative joints in metres; any J.
    keypoints : (J, 2) array
        Joints seen in the image, in pixels.
    scores : (J,) array
        Their scores, 0..1; those under 0.1 are left out, at least 4 must remain.
    silhouette : (N, 2) array or None
        Contour of the hand in pixels. With fewer than 3 points it counts as None.
    camera : Camera
        Intrinsics for those pixels.
    scale_prior : (float, float)
        Mean and standard deviation of the hand's size over the mesh's. Images do not tell size; this does (see
        `cmr_runtime.registration.scale` for what is observable).
    solver : str
        "osqp", or any that qpsolvers finds installed ("daqp", "quadprog", …). The compiled core asks none: there all
        programs have a closed form.
    cut : (N,) array of bool, optional
        Contour points that lie on a border, beyond which the hand goes on. Extents that end there are left out.
    metric : bool
        Whether the camera is known; passed on to the result.
    hand_length : float, optional
        Length of the hand in metres, from the crease of the wrist to the tip of the middle finger, in the place of
        `scale_prior`; the joints must then be the 21 of this package.

    Returns
    -------
    Registration
        Camera-space points are ``result.scale * points + result.translation``; ``result.usable`` is False where they
        are a limit and no measurement.

    Raises
    ------
    InputError
        Values that are not finite, shapes that disagree, too few joints, implausible sizes, an option out of range.
    CameraError
        What is no `Camera`.
    """
    prior = check_pair("scale_prior", scale_prior, "(mean, spread)")
    registrar = _registrar(prior, str(solver), check_length(hand_length), threading.get_ident())
    return registrar(vertices, joints, keypoints, scores, silhouette, camera, cut=cut, metric=metric)


@functools.lru_cache(maxsize=8)
def _registrar(scale_prior: tuple[float, float], solver: str, length: float | None, thread: int) -> Registrar:
    return Registrar(scale_prior, solver, hand_length=length)
