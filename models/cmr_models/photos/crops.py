# SPDX-License-Identifier: Apache-2.0
"""Crops of labelled hands: where they are cut, and the labels in their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .view import Box, View

__all__ = ["hand_view", "label_arrays", "valid_area", "weight_of"]

CROP_SCALE = 3.2
"""Side of a hand crop as a multiple of the larger side of the joints' box: room to rotate, shift and scale."""
HALF_WEIGHT = 0.025
"""2D disagreement (part of the box side) at which a label's weight is one half."""


def hand_view(keypoints: np.ndarray, size: int) -> View:
    """Square around a hand.

    Parameters
    ----------
    keypoints : ndarray (21, 2)
        Joints in pixels of the photo.
    size : int
        Side in pixels to which it is resampled.
    """
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    side = max(8, round(float((high - low).max()) * CROP_SCALE))
    x0, y0 = np.round((low + high) / 2 + 0.5 - side / 2).astype(int)
    return View(int(x0), int(y0), int(x0) + side, int(y0) + side, size, size)


def weight_of(disagreement: float) -> float:
    """Trust in a label, 1 where the passes agree to 0.5 at :data:`HALF_WEIGHT` and on towards 0."""
    return 1.0 / (1.0 + (disagreement / HALF_WEIGHT) ** 2)


def valid_area(view: View, width: int, height: int) -> Box:
    """Edges of the photo in pixels of a view, cut to the view: x0, y0, x1, y1."""
    corners = view.from_image(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    (x0, y0), (x1, y1) = np.clip(corners, -0.5, view.width - 0.5)
    return float(x0), float(y0), float(x1), float(y1)


def label_arrays(labels: list[dict[str, Any]], views: list[View]) -> dict[str, np.ndarray]:
    """Stack labels, their points mapped to the pixels of their views.

    Parameters
    ----------
    labels : list of dict
        Of :func:`cmr_models.pseudo_label.label_folder`.
    views : list of View
        Where each hand is cut.

    Returns
    -------
    dict of ndarray
        ``keypoints`` to ``source`` in the table of :mod:`cmr_models.real_crops`.
    """
    points = [view.from_image(np.array(la["keypoints"], np.float64)) for la, view in zip(labels, views, strict=True)]
    areas = [valid_area(view, la["width"], la["height"]) for la, view in zip(labels, views, strict=True)]
    apart = [(la["disagreement_2d"], la["disagreement_3d"]) for la in labels]
    return {
        "keypoints": np.array(points, np.float32).reshape(-1, 21, 2),
        "world": np.array([la["world"] for la in labels], np.float32).reshape(-1, 21, 3),
        "right": np.array([la["handedness"] == "right" for la in labels], bool),
        "weight": np.array([weight_of(flat) for flat, _ in apart], np.float32),
        "disagreement": np.array(apart, np.float32).reshape(-1, 2),
        "valid": np.array(areas, np.float32).reshape(-1, 4),
        "group": np.array([la["group"] for la in labels], str),
        "source": np.array([la["image"] for la in labels], str),
    }
