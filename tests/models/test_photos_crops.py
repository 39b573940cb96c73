# SPDX-License-Identifier: Apache-2.0
"""Trust in labels."""

import pytest

from cmr_models.photos.crops import HALF_WEIGHT, weight_of


def test_weight_falls_with_disagreement():
    assert weight_of(0.0) == 1
    assert weight_of(HALF_WEIGHT) == pytest.approx(0.5)
    assert weight_of(0.05) < 0.25
