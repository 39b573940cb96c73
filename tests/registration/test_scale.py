# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_scenes import scene

from cmr_runtime.errors import InputError
from cmr_runtime.registration import Registrar, register, scale_from_depths
from cmr_runtime.registration.scale import hand_length


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.6, 1.6), st.floats(0.85, 1.15))
def test_scale_follows_the_prior(seed, factor, mean):
    """A hand and its distance, both times c, look the same: only the prior tells which."""
    s = scene(seed, noise=1, distance=0.6)
    result = register(*s.arguments(), scale_prior=(mean, 0.08))
    assert result.scale == pytest.approx(mean, rel=1e-4)
    larger = register(s.vertices * factor, s.joints * factor, *s.arguments()[2:], scale_prior=(mean, 0.08))
    assert larger.scale == pytest.approx(mean, rel=1e-4)
    assert np.allclose(larger.translation, factor * result.translation, rtol=1e-3, atol=2e-4)


def test_hand_length_takes_the_place_of_the_prior():
    s = scene(2, size=1.1)
    length = 1.1 * hand_length(s.joints)
    blind = Registrar()(*s.arguments())
    informed = Registrar(hand_length=length)(*s.arguments())
    again = register(*s.arguments(), hand_length=length)
    assert informed.scale == pytest.approx(1.1)
    assert np.array_equal(informed.translation, again.translation)
    assert abs(informed.translation[2] - s.translation[2]) < 0.01 * abs(blind.translation[2] - s.translation[2])
    assert informed.sigma[2] < 0.5 * blind.sigma[2]
    with pytest.raises(InputError, match="hand_length is 19"):
        Registrar(hand_length=19.0)
    with pytest.raises(InputError, match=r"the mean of the scale by hand_length is \S+, expected 0\.1 to 10"):
        Registrar(hand_length=0.19)(0.05 * s.vertices, 0.05 * s.joints, *s.arguments()[2:])
    with pytest.raises(InputError, match="21 joints"):
        Registrar(hand_length=0.19)(s.vertices, s.joints[:20], s.keypoints[:20], s.scores[:20], None, s.camera)


def test_scale_from_known_depths():
    scenes = [scene(k, noise=1, size=0.93) for k in range(20)]
    results = [register(*s.arguments()) for s in scenes]
    mean, spread = scale_from_depths(results, [s.translation[2] for s in scenes])
    assert mean == pytest.approx(0.93, abs=0.01)
    assert 0.004 < spread < 0.02
    with pytest.raises(InputError, match="one depth for each"):
        scale_from_depths(results, [0.5])
    with pytest.raises(InputError, match="above 0"):
        scale_from_depths(results[:1], [-0.5])
    with pytest.raises(InputError, match="depths is"):
        scale_from_depths(results[:1], ["near"])


def test_scale_comes_from_usable_results_alone():
    s = scene(0)
    far = register(
        s.vertices, s.joints, 0.02 * (s.keypoints - s.keypoints[9]) + s.keypoints[9], s.scores, None, s.camera
    )
    assert far.bounds_active
    for bad in (far, None):
        with pytest.raises(InputError, match=r"registrations\[1\] is no usable Registration"):
            scale_from_depths([register(*s.arguments()), bad], [s.translation[2], 5.0])
