# SPDX-License-Identifier: Apache-2.0
"""The palm detector: anchors, exactness of the shortcut, loading; the shipped weights against TensorFlow Lite."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmr_models.detector.palm import BLOCKS, SIZE, PalmDetector, Up, anchors, load_palm

WEIGHTS = Path(__file__).parents[2] / "models" / "weights" / "palm_detector.npz"


def converted(network: PalmDetector) -> dict[str, np.ndarray]:
    """Weights as the converter writes them."""
    out = {}
    for k, conv in enumerate(network.convolutions()):
        out[f"conv_{k}_weight"], out[f"conv_{k}_bias"] = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    return out | {f"prelu_{k}": slope.weight.detach().numpy() for k, slope in enumerate(network.slopes())}


@pytest.fixture(scope="module")
def shipped() -> PalmDetector:
    with np.load(WEIGHTS, allow_pickle=False) as arrays:
        return load_palm(dict(arrays))


def test_anchors_are_mediapipes():
    # SsdAnchorsCalculator: layers of strides 8, 16, 16, 16; layers of one stride share their cells; two anchors each.
    expected = []
    for stride, layers in ((8, 1), (16, 3)):
        for row in range(SIZE // stride):
            for column in range(SIZE // stride):
                expected += [((column + 0.5) * stride, (row + 0.5) * stride)] * (2 * layers)
    found = anchors()
    assert found.shape == (2016, 18)
    np.testing.assert_array_equal(found[:, :2], expected)
    np.testing.assert_array_equal(found[:, 2:4], 0)
    for k in range(7):
        np.testing.assert_array_equal(found[:, 4 + 2 * k : 6 + 2 * k], expected)


def test_a_pointwise_convolution_may_come_before_the_resize():
    torch.manual_seed(0)
    up, x, skip = Up(6, 4), torch.randn(1, 6, 5, 5), torch.randn(1, 4, 10, 10)
    torch.nn.init.normal_(up.pointwise.conv.bias)
    with torch.no_grad():
        after = up.pointwise(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        torch.testing.assert_close(up(x, skip), up.blocks(skip + up.act(after)))


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_weights_tell_the_architecture(name):
    torch.manual_seed(1)
    network = PalmDetector(BLOCKS[name]).eval()
    again = load_palm(converted(network))
    image = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        for ours, theirs in zip(network(image), again(image), strict=True):
            assert torch.equal(ours, theirs)


def test_other_weights_are_refused():
    weights = converted(PalmDetector(BLOCKS["lite"]))
    with pytest.raises(ValueError, match="3 PReLU layers: neither of"):
        load_palm({name: value for name, value in weights.items() if name in ("prelu_0", "prelu_1", "prelu_2")})
    with pytest.raises(ValueError, match=r"conv_0_weight has shape \(1,\); the palm detector needs \(32, 3, 5, 5\)"):
        load_palm({**weights, "conv_0_weight": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match="conv_7_bias has shape None"):
        load_palm({name: value for name, value in weights.items() if name != "conv_7_bias"})


def test_nothing_is_found_in_nothing(shipped):
    with torch.no_grad():
        boxes, scores = shipped(torch.zeros(1, 3, SIZE, SIZE))
    assert boxes.shape == (1, 2016, 18)
    assert scores.shape == (1, 2016)
    assert float(scores.max()) < 0.3


def test_a_hand_is_found_where_it_is_shown(shipped):
    """The sample photo of the examples; moved by whole cells, the same box comes moved by as much."""
    from cmr_runtime.image_io import read_image
    from cmr_runtime.roi import Roi

    image = read_image(Path(__file__).parents[2] / "examples" / "data" / "sample.jpg")
    side = max(image.shape[:2])
    found = []
    for shift in (0, side / 12):
        crop = Roi(image.shape[1] / 2 - shift, image.shape[0] / 2, side).crop(image, SIZE)
        with torch.no_grad():
            boxes, scores = shipped(torch.from_numpy(crop.transpose(2, 0, 1).copy())[None].float() / 255)
        best = int(scores[0].argmax())
        assert float(scores[0, best]) > 0.5  # MediaPipe's own least score
        found.append(boxes[0, best].numpy())
    moved = found[1] - found[0]
    np.testing.assert_allclose(moved[[0, *range(4, 18, 2)]], 1 / 12, atol=0.03)
    np.testing.assert_allclose(moved[[1, *range(5, 18, 2)]], 0, atol=0.03)


def test_the_same_as_in_tensorflow_lite(shipped):
    """Values of ai-edge-litert 2.3.0 with palm_detection_lite.tflite of mediapipe 0.10.14, for a picture of squares."""
    image = np.kron(np.random.default_rng(0).random((6, 6, 3)), np.ones((32, 32, 1))).astype(np.float32)
    anchor = [0, 777, 1152, 2015, 792]
    logits = np.array([-3.9903, -8.2633, -6.9614, -15.3724, -2.7328])
    values = [0, 1, 2, 3, 4, 17]
    pixels = [
        [1.087, 1.392, 10.912, 10.894, -2.038, 0.032],
        [0.690, 0.116, 22.798, 22.771, 6.519, -1.945],
        [1.027, -5.164, 40.537, 40.550, 4.125, -11.506],
        [23.114, 1.788, 101.176, 101.074, 35.388, -10.299],
        [-0.844, 1.829, 12.072, 12.057, 0.892, -2.000],
    ]
    with torch.no_grad():
        boxes, scores = shipped(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    np.testing.assert_allclose(scores[0, anchor].numpy(), 1 / (1 + np.exp(-logits)), atol=1e-4)
    found = SIZE * boxes[0].numpy() - anchors()
    np.testing.assert_allclose(found[np.ix_(anchor, values)], pixels, atol=2e-3)
