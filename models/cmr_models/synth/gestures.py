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

# Thumb postures: CMC flexion, CMC abduction, CMC twist, MCP flexion, IP flexion in degrees. Solved for where the tip
# is to be: on the fingertip it meets, on the middle phalanx it covers, or at a point beside the hand.
THUMBS: dict[str, tuple[float, float, float, float, float]] = {
    "out": (-18, -5, -20, -8, -12),
    "up": (-30, -4, -20, -8, -16),
    "side": (6, -19, -22, -6, 20),
    "rest": (-4, 6, -12, 18, 18),
    "cup": (8, 20, -18, 30, 22),
    "wide": (10, 4, -12, 0, -5),
    "over index": (24, -14, -8, 24, 36),
    "over middle": (38, 4, -16, 26, 50),
    "over ring": (27, -17, 16, 23, 39),
    "over little": (43, -1, -5, 20, 44),
    "palm": (38, 30, -22, 55, 76),
    "tucked": (-5, -32, -10, 56, 70),
    "index tip": (-2, 12, -6, 42, 42),
    "ok tip": (1, 32, -22, 56, 30),
    "tips": (30, 10, -22, 30, 0),
    "beak": (39, 13, -24, -2, 27),
    "middle tip": (2, 4, 8, 30, 53),
    "ring tip": (14, 26, -10, 43, 48),
    "little tip": (24, 3, -1, 31, 60),
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
    "fist": ("over middle", _four("fist"), "closed", 2.5),
    "thumb in fist": ("tucked", _four("curl"), "closed", 0.4),
    "thumbs up": ("up", _four("fist"), "closed", 2.0),
    "point": ("over middle", "straight fist fist fist", "closed", 2.0),
    "gun": ("out", "straight fist fist fist", "closed", 1.0),
    "one": ("over middle", "straight curl curl curl", "closed", 1.0),
    "victory": ("over ring", "straight straight curl curl", "vee", 2.0),
    "two closed": ("over ring", "straight straight curl curl", "closed", 0.6),
    "two with thumb": ("out", "straight fist fist fist", "open", 0.8),
    "crossed fingers": ("over ring", "straight soft curl curl", "crossed", 0.4),
    "three": ("over little", "straight straight straight curl", "open", 1.2),
    "three with thumb": ("out", "straight straight curl curl", "open", 1.2),
    "four": ("palm", _four("straight"), "open", 1.5),
    "five": ("out", _four("straight"), "wide", 1.5),
    "six": ("little tip", "straight straight straight grip", "open", 0.7),
    "seven": ("ring tip", "straight straight grip straight", "open", 0.7),
    "eight": ("middle tip", "straight grip straight straight", "open", 0.7),
    "nine": ("index tip", "touch straight straight straight", "open", 0.7),
    "ok": ("ok tip", "touch soft straight straight", "open", 1.5),
    "pinch": ("index tip", "touch bent bent bent", "loose", 1.5),
    "pinch closed": ("index tip", "touch curl curl curl", "closed", 1.0),
    "precision": ("tips", "pinch pinch pinch bent", "closed", 1.2),
    "zero": ("tips", _four("pinch"), "closed", 1.0),
    "beak": ("beak", _four("flat"), "closed", 0.8),
    "rock": ("over middle", "straight fist fist straight", "open", 1.0),
    "love": ("out", "straight fist fist straight", "open", 0.8),
    "call me": ("out", "fist fist fist straight", "open", 1.2),
    "little finger": ("over middle", "curl curl curl straight", "loose", 0.6),
    "middle finger": ("over ring", "curl straight curl curl", "closed", 0.6),
    "ring finger": ("over middle", "curl curl straight curl", "closed", 0.3),
    "cup": ("cup", _four("cup"), "loose", 2.0),
    "wide grasp": ("wide", _four("wide"), "open", 1.5),
    "power grasp": ("over index", _four("grip"), "closed", 1.5),
    "pen": ("middle tip", "pinch grip grip curl", "closed", 1.0),
    "hook": ("side", _four("hook"), "closed", 0.6),
    "claw": ("out", _four("claw"), "open", 1.0),
    "vulcan": ("out", _four("straight"), "vulcan", 0.5),
    "stop": ("side", _four("back"), "closed", 0.8),
    "flat fist": ("side", _four("flat"), "closed", 0.6),
    "scissors low": ("over ring", "bent soft curl curl", "vee", 0.6),
    "trigger": ("over middle", "hook fist fist fist", "closed", 0.8),
}


def gesture_angles(name: str) -> Tensor:
    """Joint angles (15, 3) of a gesture, in degrees: (flexion, abduction, twist), without the wrist."""
    thumb, fingers, spread, _ = GESTURES[name]
    flexion, abduction, twist, mcp, ip = THUMBS[thumb]
    rows = [(flexion, abduction, twist), (mcp, 0.0, 0.0), (ip, 0.0, 0.0)]
    for posture, side in zip(fingers.split(), SPREADS[spread], strict=True):
        first, second, third = FINGERS[posture]
        rows += [(first, side * min(1.0, max(0.0, 1 - first / 80)), 0.0), (second, 0.0, 0.0), (third, 0.0, 0.0)]
    return torch.tensor(rows)
