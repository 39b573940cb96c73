# SPDX-License-Identifier: Apache-2.0
"""What is held out stays apart."""

import pytest

from cmr_models.photos.held_out import VAL_RUN, VAL_SHARE, held_out


def test_held_out_runs_are_whole():
    names = [f"digits/{n % 10}_IMG_{n}.jpg" for n in range(1000, 3000)] + ["rooms/996_pic1.jpg", "rooms/2_pic1.jpg"]
    groups = ["digits"] * 2000 + ["rooms_996", "rooms_2"]
    val = held_out(names, groups)
    assert val[-2:].tolist() == [True, False]
    assert val[:2000].sum() == pytest.approx(2000 * VAL_SHARE, abs=VAL_RUN)
    runs = val[:2000].reshape(-1, VAL_RUN)
    assert (runs.all(axis=1) | ~runs.any(axis=1)).all()
    assert (held_out(names, groups) == val).all()
    assert (held_out(names, groups, seed=1) != val).any()
