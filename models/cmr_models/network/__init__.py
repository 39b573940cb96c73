# SPDX-License-Identifier: Apache-2.0
"""Networks: `prior` (image to 2D cues), `mesh` (cues to mesh), built from `trunk`, `hourglass`, `cues`, `spiral`."""

from .handnet import HandNet, HandNetConfig, HandNetOutput, load_checkpoint, save_checkpoint, to_input

__all__ = ["HandNet", "HandNetConfig", "HandNetOutput", "load_checkpoint", "save_checkpoint", "to_input"]
