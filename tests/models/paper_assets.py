# SPDX-License-Identifier: Apache-2.0
"""Mesh files in the reference's form, of this project's own hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from scipy.sparse import csc_matrix

from cmr_models.paper.hierarchy import MeshHierarchy


def write_transform(directory: Path, hierarchy: MeshHierarchy, protocol: int = 4) -> None:
    """Write a hierarchy as the reference does: SciPy's own matrices in a pickle."""
    ups, downs = [], []
    for level in range(hierarchy.levels):
        fine, coarse = hierarchy.counts[level : level + 2]
        rows = np.repeat(np.arange(fine), 3)
        entries = (hierarchy.up_weight[level].ravel(), (rows, hierarchy.up_index[level].ravel()))
        ups.append(csc_matrix(entries, shape=(fine, coarse)))
        entries = (np.ones(coarse, np.float32), (np.arange(coarse), hierarchy.down_index[level]))
        downs.append(csc_matrix(entries, shape=(coarse, fine)))
    content = {
        "vertices": [v.astype(float) for v in hierarchy.vertices],
        "face": [f.astype(np.uint32) for f in hierarchy.faces],
        "adj": [],
        "down_transform": downs,
        "up_transform": ups,
    }
    (directory / "transform.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
