# SPDX-License-Identifier: Apache-2.0
"""What a camera does to an image: blur, exposure, white balance, noise, low resolution, compression.

Every effect takes images (B, 3, H, W) float32 in 0..1 and one parameter per image, and returns the same shape.
`degrade` draws the parameters from the table below.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .rng import Rng

__all__ = ["compress", "degrade", "expose", "filter_images", "gaussian_kernels", "lower_resolution", "motion_kernels"]

# Effect: share of the images that it touches, range of its parameter.
BLUR = (0.35, 0.3, 4.5)  # standard deviation in pixels: from a soft lens to a hand far out of focus
MOTION = (0.15, 1.5, 14.0)  # length of the smear in pixels
RESAMPLE = (0.2, 1.2, 3.2)  # factor by which the resolution falls
NOISE = (0.6, 0.003, 0.045)  # standard deviation in the dark
CHROMA_NOISE = 0.5  # of the noise is shared by the channels
JPEG = (0.6, 22, 95)  # quality
BRIGHTNESS, CONTRAST, SATURATION, WHITE_BALANCE, GAMMA = 0.18, 0.14, 0.25, 0.05, 0.16  # deviations (logarithm)
LOW_LIGHT = (0.07, 0.3, 0.7)  # factor on the brightness
GREY = 0.03  # share of images without colour
KERNEL = 27


def gaussian_kernels(sigma: Tensor) -> Tensor:
    """Blur kernels (B, KERNEL, KERNEL) for standard deviations (B,) in pixels."""
    at = torch.arange(KERNEL, device=sigma.device) - KERNEL // 2
    line = torch.exp(-(at**2) / (2 * sigma[:, None].clamp_min(0.05) ** 2))
    line = line / line.sum(1, keepdim=True)
    return line[:, :, None] * line[:, None]


def motion_kernels(length: Tensor, angle: Tensor) -> Tensor:
    """Smear kernels (B, KERNEL, KERNEL) for lengths in pixels and angles in radians (B,)."""
    at = torch.arange(KERNEL, device=length.device) - KERNEL // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    along = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
    across = y * angle.cos()[:, None, None] - x * angle.sin()[:, None, None]
    kernel = torch.sigmoid((length[:, None, None] / 2 - along.abs()) * 3) * torch.exp(-(across**2) / 0.5)
    return kernel / kernel.sum((1, 2), keepdim=True)


def filter_images(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel (B, K, K); borders are repeated."""
    count, channels, height, width = images.shape
    if images.device.type == "cpu":  # grouped convolutions are slow there
        done = [
            cv2.filter2D(np.ascontiguousarray(image), -1, kernel, borderType=cv2.BORDER_REPLICATE)
            for image, kernel in zip(images.permute(0, 2, 3, 1).numpy(), kernels.numpy(), strict=True)
        ]
        return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2)
    pad = kernels.shape[-1] // 2
    padded = functional.pad(images, (pad,) * 4, mode="replicate").transpose(0, 1)
    result = functional.conv2d(padded, kernels[:, None].to(images), groups=count)
    return result.transpose(0, 1).reshape(count, channels, height, width)


def expose(images: Tensor, gain: Tensor, gamma: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Gains per channel (B, 3), then gamma, contrast about the mean, and saturation (B,)."""
    gamma, contrast, saturation = (v[:, None, None, None] for v in (gamma, contrast, saturation))
    images = (images * gain[:, :, None, None]).clamp_(1e-4, 1).pow_(gamma)
    mean = images.mean((1, 2, 3), keepdim=True)
    images.sub_(mean).mul_(contrast).add_(mean)
    grey = images.mean(1, keepdim=True)
    return images.sub_(grey).mul_(saturation).add_(grey).clamp_(0, 1)


def lower_resolution(images: Tensor, factor: float) -> Tensor:
    """Shrink by a factor and enlarge again."""
    size = images.shape[-2:]
    # By sizes and not by the factor: this would be taken as it is while the size is rounded, and shift the picture.
    less = [max(1, round(side / factor)) for side in size]
    small = functional.interpolate(images, size=less, mode="bilinear", antialias=True)
    return functional.interpolate(small, size=size, mode="bilinear").clamp(0, 1)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """JPEG and back: image (H, W, 3) uint8."""
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def _some(rng: Rng, effect: tuple[float, float, float], count: int) -> tuple[Tensor, Tensor]:
    """Choose the images that an effect touches: their indices and its parameters there, uniform in the logarithm."""
    share, low, high = effect
    index = rng.chance(share, count).nonzero()[:, 0]
    return index, rng.log_uniform(low, high, count)[index]


def degrade(rng: Rng, images: Tensor) -> Tensor:
    """Photograph images (B, H, W, 3) uint8 with random cameras; the same shape and type."""
    count, device = len(images), images.device
    x = images.to(device).permute(0, 3, 1, 2).contiguous() / 255

    index, sigma = _some(rng, BLUR, count)
    if len(index):
        x[index] = filter_images(x[index], gaussian_kernels(sigma.to(device)))
    index, length = _some(rng, MOTION, count)
    if len(index):
        angle = rng.uniform(0, 3.1416, count)[index]
        x[index] = filter_images(x[index], motion_kernels(length.to(device), angle.to(device)))

    gain = torch.exp(rng.normal(count, 1, sigma=BRIGHTNESS) + rng.normal(count, 3, sigma=WHITE_BALANCE))
    index, dark = _some(rng, LOW_LIGHT, count)
    gain[index] *= dark[:, None]
    gamma, contrast, saturation = (torch.exp(rng.normal(count, sigma=s)) for s in (GAMMA, CONTRAST, SATURATION))
    saturation = torch.where(rng.chance(GREY, count), 0.0, saturation)
    x = expose(x, *(v.to(device) for v in (gain, gamma, contrast, saturation)))

    index, sigma = _some(rng, NOISE, count)
    if len(index):
        some = x[index]
        colour, grey = rng.normal(*some.shape), rng.normal(len(some), 1, *some.shape[2:])
        noise = sigma[:, None, None, None] * ((1 - CHROMA_NOISE) * colour + CHROMA_NOISE * grey)
        x[index] = some + noise.to(device) * (0.5 + some.sqrt())

    index, factor = _some(rng, RESAMPLE, count)
    for i, f in zip(index.tolist(), factor.tolist(), strict=True):
        x[i : i + 1] = lower_resolution(x[i : i + 1], f)
    result = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    index, quality = _some(rng, JPEG, count)
    for i, q in zip(index.tolist(), quality.tolist(), strict=True):
        image = compress(result[i].cpu().numpy(), round(q))
        result[i] = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return result
