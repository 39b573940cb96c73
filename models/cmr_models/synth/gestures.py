# SPDX-License-Identifier: Apache-2.0
"""A library of gestures as joint angles, written finger by finger in a few shared words.

A gesture gives a thumb posture, four finger postures (index, middle, ring, little) and four spreads. Finger angles are
anatomical: all zero is the straight, closed hand. Thumb angles count from the hand model's rest pose.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GESTURES", "gesture_angles"]

# Finger postures: flexion of MCP, PIP, DIP in degrees.
FINGERS: dict[str, tuple[float, float, float]] = {
    "straight": (0, 5, 2),
    "back": (-12, 4, 2),
    "soft": (18, 22, 12),
    "bent": (30, 45, 25),
    "cup": (42, 38, 22),
    "wide": (22, 34, 20),
    "grip": (62, 62, 35),
    "hook": (5, 95, 60),
    "claw": (-8, 62, 42),
    "flat": (75, 8, 4),
    "pinch": (48, 48, 24),
    "touch": (56, 62, 30),
    "curl": (78, 96, 58),
    "fist": (84, 102, 66),
}

# Thumb postures: CMC flexion, CMC abduction, CMC twist, MCP flexion, IP flexion in degrees.
THUMBS: dict[str, tuple[float, float, float, float, float]] = {
    "out": (-10, 20, 0, 0, -8),
    "up": (-14, 10, 0, 0, -14),
    "side": (4, 0, 0, 8, 4),
    "rest": (12, 12, 6, 14, 14),
    "cup": (20, 30, 14, 16, 16),
    "pinch": (26, 30, 16, 20, 24),
    "reach": (36, 26, 20, 34, 34),
    "across": (40, 14, 18, 44, 46),
    "over": (32, 22, 16, 40, 52),
    "tucked": (44, 4, 16, 48, 40),
}

# Spreads of index, middle, ring, little in degrees, away from the middle finger (the middle finger: to the thumb).
SPREADS: dict[str, tuple[float, float, float, float]] = {
    "closed": (-2, 0, -1, -3),
    "loose": (4, 0, 3, 6),
    "open": (12, 0, 9, 16),
    "wide": (17, 0, 13, 21),
    "vee": (13, -7, 2, 2),
    "crossed": (-9, 6, 0, 0),
    "vulcan": (3, -10, 12, 6),
}


def _four(posture: str) -> str:
    return " ".join([posture] * 4)


# name: thumb, four fingers, spread, weight.
GESTURES: dict[str, tuple[str, str, str, float]] = {
    "open palm": ("out", _four("straight"), "open", 3.0),
    "spread": ("out", _four("back"), "wide", 2.0),
    "flat": ("side", _four("straight"), "closed", 1.5),
    "relaxed": ("rest", "soft soft bent bent", "loose", 2.5),
    "relaxed deep": ("rest", "soft bent bent cup", "loose", 1.5),
    "fist": ("over", _four("fist"), "closed", 2.5),
    "thumb in fist": ("tucked", _four("curl"), "closed", 0.4),
    "thumbs up": ("up", _four("fist"), "closed", 2.0),
    "point": ("over", "straight fist fist fist", "closed", 2.0),
    "gun": ("out", "straight fist fist fist", "closed", 1.0),
    "one": ("across", "straight curl curl curl", "closed", 1.0),
    "victory": ("across", "straight straight curl curl", "vee", 2.0),
    "two closed": ("across", "straight straight curl curl", "closed", 0.6),
    "two with thumb": ("out", "straight fist fist fist", "open", 0.8),
    "crossed fingers": ("across", "straight soft curl curl", "crossed", 0.4),
    "three": ("across", "straight straight straight curl", "open", 1.2),
    "three with thumb": ("out", "straight straight curl curl", "open", 1.2),
    "four": ("across", _four("straight"), "open", 1.5),
    "five": ("out", _four("straight"), "wide", 1.5),
    "six": ("reach", "straight straight straight grip", "open", 0.7),
    "seven": ("reach", "straight straight grip straight", "open", 0.7),
    "eight": ("reach", "straight grip straight straight", "open", 0.7),
    "nine": ("pinch", "touch straight straight straight", "open", 0.7),
    "ok": ("pinch", "touch soft straight straight", "open", 1.5),
    "pinch": ("pinch", "touch bent bent bent", "loose", 1.5),
    "pinch closed": ("pinch", "touch curl curl curl", "closed", 1.0),
    "precision": ("pinch", "pinch pinch pinch bent", "closed", 1.2),
    "zero": ("pinch", _four("pinch"), "closed", 1.0),
    "beak": ("pinch", _four("flat"), "closed", 0.8),
    "rock": ("across", "straight fist fist straight", "open", 1.0),
    "love": ("out", "straight fist fist straight", "open", 0.8),
    "call me": ("out", "fist fist fist straight", "open", 1.2),
    "little finger": ("across", "curl curl curl straight", "loose", 0.6),
    "middle finger": ("over", "curl straight curl curl", "closed", 0.6),
    "ring finger": ("across", "curl curl straight curl", "closed", 0.3),
    "cup": ("cup", _four("cup"), "loose", 2.0),
    "wide grasp": ("out", _four("wide"), "open", 1.5),
    "power grasp": ("over", _four("grip"), "closed", 1.5),
    "pen": ("pinch", "pinch grip grip curl", "closed", 1.0),
    "hook": ("side", _four("hook"), "closed", 0.6),
    "claw": ("out", _four("claw"), "open", 1.0),
    "vulcan": ("out", _four("straight"), "vulcan", 0.5),
    "stop": ("side", _four("back"), "closed", 0.8),
    "flat fist": ("side", _four("flat"), "closed", 0.6),
    "scissors low": ("across", "bent soft curl curl", "vee", 0.6),
    "trigger": ("over", "hook fist fist fist", "closed", 0.8),
}


def gesture_angles(name: str) -> Tensor:
    """Joint angles (15, 3) of a gesture, in degrees: (flexion, abduction, twist), without the wrist."""
    thumb, fingers, spread, _ = GESTURES[name]
    flexion, abduction, twist, mcp, ip = THUMBS[thumb]
    rows = [(flexion, abduction, twist), (mcp, 0.0, 0.0), (ip, 0.0, 0.0)]
    for posture, side in zip(fingers.split(), SPREADS[spread], strict=True):
        first, second, third = FINGERS[posture]
        rows += [(first, side * max(0.0, 1 - first / 80), 0.0), (second, 0.0, 0.0), (third, 0.0, 0.0)]
    return torch.tensor(rows)
