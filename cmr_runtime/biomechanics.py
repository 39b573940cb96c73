# SPDX-License-Identifier: Apache-2.0
"""Whether a hand is anatomically possible: the angles of its joints and the lengths of its bones, and which are not.

Angles are read off the joints alone. Wrist and knuckles span the palm; for each finger it is tilted until it holds that
finger's knuckle, so that an arched palm does not count as flexion. A finger has no abduction where it points as the
middle finger's metacarpal does. A hinge bends about the palm's axis, carried along by the bones before it. The thumb
has no such axis: it is taken to bend towards the little finger's knuckle. Of the package's own hand model, posed at
random, the thumb's axes are within 13° of that in half of the hands and within 34° in 19 of 20; its limits make room.

Joints do not tell how far a bone is turned about itself, so twist is not judged.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .values import is_number

__all__ = ["JointAngles", "Violation", "bone_lengths", "joint_angles", "violations"]

_Array = npt.NDArray[np.float64]
_Kind = Literal["flexion", "abduction", "sideways", "fan", "length"]

FINGERS = ("index", "middle", "ring", "little")
JOINT_NAMES = (
    *("wrist", "thumb CMC", "thumb MCP", "thumb IP", "thumb tip"),
    *(f"{finger} {joint}" for finger in FINGERS for joint in ("MCP", "PIP", "DIP", "tip")),
)
PHALANGES = ("proximal phalanx", "middle phalanx", "distal phalanx")
#: Of the bone that ends at each joint; the carpus counts to the fingers' metacarpals, which begin at the wrist.
BONE_NAMES = (
    *("", "thumb carpus", "thumb metacarpal", "thumb proximal phalanx", "thumb distal phalanx"),
    *(f"{finger} {bone}" for finger in FINGERS for bone in ("metacarpal", *PHALANGES)),
)
PARENTS = np.array([0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19])
KNUCKLES, PIP, DIP = (5, 9, 13, 17), (6, 10, 14, 18), (7, 11, 15, 19)

#: Usual lengths of the bones that end at joints 1 to 20, millimetres, in a hand 190 long. Each is the mean of the bones
#: of Buryanov and Kotiuk (Int. J. Morphol. 28(3), 2010; end phalanges with their pulp), of the package's hand model and
#: of MediaPipe's hands in photos, all within 20 % of it: people and programs place joints differently.
USUAL = np.array([41, 40, 33, 28, 101, 35, 22, 24, 96, 42, 27, 24, 93, 37, 25, 23, 87, 28, 18, 19], dtype=np.float64)

#: What is possible: degrees, and lengths as multiples of the usual one.
#:
#: Most people's range of motion (American Academy of Orthopaedic Surgeons, Joint Motion, 1965) is MCP -45, passively,
#: to 90, PIP 0 to 100, DIP 0 to 90, thumb MCP 0 to 50, IP -20 to 80 and abduction to 70, fingers spread by 20. Wider
#: here: PIP joints reach 110 in a fist; fingers that press on something bend back, and so do hitchhiker's thumbs, by 50
#: (Glass and Kistler, Acta Genet. Stat. Med. 4, 1953); the little finger goes 32 from the ring finger, and that 14 from
#: the middle finger (Chatzioglou et al., Anat. Cell Biol. 57(2), 2024). No hinge bends sideways: those limits are for
#: the axis, which is guessed. Knuckles are 12 to 15 apart in the package's hand model, as in MediaPipe's hands.
#:
#: Phalanges three standard deviations (Buryanov and Kotiuk: 7 to 14 %, the hand's size in it) off their mean are 0.54
#: to 1.56 of the usual, somewhat less far off in a hand of known size. The palm varies little in all three sources.
LIMITS: tuple[tuple[_Kind, tuple[int, ...], float, float], ...] = (
    ("flexion", (2,), -20, 70),
    ("flexion", (3,), -45, 90),
    ("flexion", KNUCKLES, -45, 95),
    ("flexion", PIP, -10, 115),
    ("flexion", DIP, -20, 90),
    ("abduction", (1,), -15, 80),
    ("abduction", (5, 9, 13), -30, 30),
    ("abduction", (17,), -30, 45),
    ("sideways", (2, 3), -30, 30),
    ("sideways", PIP + DIP, -25, 25),
    ("fan", (9, 13, 17), 5, 22),
    ("length", KNUCKLES, 0.8, 1.25),
    ("length", (1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20), 0.6, 1.5),
)
#: Farthest coordinate: far beyond any hand in metres, millimetres or pixels, and safe to square.
MAX_REACH = 1e6


class Violation(NamedTuple):
    """Something about a hand that is anatomically not possible; as text, a line for people.

    Attributes
    ----------
    joint : int
        Where, 1 to 20. Of a bone's length: the joint at its far end.
    kind : "flexion", "abduction", "sideways", "fan" or "length"
        An angle of `JointAngles`, or a length of `bone_lengths`.
    value, low, high : float
        What was found, and what is possible: degrees, or multiples of the usual length.
    """

    joint: int
    kind: _Kind
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.kind == "length":
            name = BONE_NAMES[self.joint]
            return f"{name}: {self.value:.2f} of its usual length, possible are {self.low:g} to {self.high:g}"
        name = JOINT_NAMES[self.joint]
        return f"{name}: {self.kind} {self.value:.0f}°, possible are {self.low:g}° to {self.high:g}°"


class JointAngles(NamedTuple):
    """Angles of a hand in degrees, each (21,) float64 by joint; NaN where a joint has no such angle.

    Attributes
    ----------
    flexion : (21,) array
        To the palm; negative is hyperextension. Of MCP, PIP and DIP joints, and of the thumb's MCP and IP joints.
    abduction : (21,) array
        Of a knuckle away from the middle finger, of the middle finger's to the thumb. Of the thumb's base out of the
        palm's plane, on its inner side.
    sideways : (21,) array
        How far a hinge is bent out of its plane: to the little finger's side, of the thumb to the back of the hand.
    fan : (21,) array
        Between a knuckle and the one before it, seen from the wrist; negative where they are swapped.
    """

    flexion: _Array
    abduction: _Array
    sideways: _Array
    fan: _Array


def violations(joints: npt.ArrayLike, side: Literal["left", "right"], tolerance: float = 10.0) -> list[Violation]:
    """List what is anatomically not possible about a hand.

    Parameters
    ----------
    joints, side
        As for `joint_angles`; of a `Hand` its ``joints`` and ``handedness``.
    tolerance : float
        Degrees by which angles may exceed the range of motion, since joints are never found exactly: errors of 3 mm at
        both ends turn a phalanx of 25 mm by 10°. The limits of a violation hold it. Lengths do not depend on it.

    Returns
    -------
    list of Violation
        By joint; empty if the hand is possible.

    Raises
    ------
    InputError
        As `joint_angles`, or a tolerance that is no finite number from 0.

    Examples
    --------
    >>> from cmr_runtime import Bundle, violations
    >>> topology = Bundle.default().topology
    >>> joints = topology.joint_regressor @ topology.template  # a right hand at rest, its palm towards +z
    >>> violations(joints, "right")
    []
    >>> joints[7:9, 2] = 2 * joints[6, 2] - joints[7:9, 2]  # the index finger, bent back
    >>> for violation in violations(joints, "right"):
    ...     print(violation)
    index PIP: flexion -40°, possible are -20° to 125°
    """
    if not is_number(tolerance) or not 0.0 <= float(tolerance) < np.inf:
        raise InputError(f"tolerance is {tolerance!r}; give degrees, a finite number from 0")
    found: dict[str, _Array] = {**joint_angles(joints, side)._asdict(), "length": bone_lengths(joints)}
    wrong = []
    for kind, places, least, most in LIMITS:
        room = 0.0 if kind == "length" else float(tolerance)
        low, high = least - room, most + room
        for joint in places:
            value = float(found[kind][joint])
            if not low <= value <= high:
                wrong.append(Violation(joint, kind, value, low, high))
    return sorted(wrong)


def joint_angles(joints: npt.ArrayLike, side: Literal["left", "right"]) -> JointAngles:
    """Angles of a hand's joints.

    Of the package's hand model, posed at random, they are as it was posed, to 2° at hinges (little finger 5°) and to 6°
    in flexion of knuckles (13°); its bent fingers lean on each other, which is up to 13° of abduction (21°).

    Parameters
    ----------
    joints : (21, 3) array
        Wrist, then thumb, index, middle, ring and little finger, each from the palm to the tip; metres, in any frame
        that is not mirrored, such as the camera's.
    side : "left" or "right"

    Returns
    -------
    JointAngles

    Raises
    ------
    InputError
        Another shape or side, values that are not finite, or joints without angles: both ends of a bone in one place,
        or wrist and knuckles on a line.
    """
    hand = _check(joints)
    if side not in ("left", "right"):
        raise InputError(f"side is {side!r}; give 'left' or 'right'")
    if side == "left":
        hand[:, 0] *= -1.0  # a right hand now, whose angles are the same
    digits = hand[1:].reshape(5, 4, 3)
    knuckles, bones = digits[1:, 0], _unit(np.diff(digits, axis=1))
    metacarpals, across = _unit(knuckles), knuckles[3] - knuckles[0]
    palm = np.cross(metacarpals[1], across)
    if np.linalg.norm(palm) < 1e-3:
        raise InputError("wrist and knuckles lie on a line and span no palm; give the joints of a hand")
    palm = _unit(palm)
    tilted = _square(palm, metacarpals)
    forward = _square(metacarpals[1], tilted)
    ulnar = np.cross(tilted, forward)

    angles = np.full((4, 21), np.nan)
    flexion, abduction, sideways, fan = (row[1:].reshape(5, 4) for row in angles)  # views: digits by joints
    proximal = bones[1:, 0]
    flexion[1:, 0] = np.arctan2(_dot(proximal, tilted), _dot(proximal, forward))
    abduction[0, 0] = np.arcsin(_dot(bones[0, 0], palm).clip(-1, 1))
    abduction[1:, 0] = np.arcsin(_dot(proximal, ulnar).clip(-1, 1)) * (-1, -1, 1, 1)
    turn = _dot(np.cross(metacarpals[:-1], metacarpals[1:]), palm)
    fan[2:, 0] = np.arctan2(turn, _dot(metacarpals[:-1], metacarpals[1:]))
    thumb = np.cross(_square(knuckles[3] - digits[0, 0], bones[0, 0]), bones[0, 0])
    axis = np.vstack([thumb, _square(ulnar, proximal)])
    for k in (1, 2):
        before, after = bones[:, k - 1], bones[:, k]
        flexion[:, k] = np.arctan2(_dot(after, np.cross(before, axis)), _dot(after, before))
        sideways[:, k] = np.arcsin(_dot(after, axis).clip(-1, 1))
        axis = _square(axis, after)
    return JointAngles(*np.degrees(angles))


def bone_lengths(joints: npt.ArrayLike) -> _Array:
    """Lengths of a hand's bones as multiples of what is usual in a hand of that size.

    The size is that of which half of the bones are too long and half too short, so that a few wrong ones do not matter.

    Parameters
    ----------
    joints : (21, 3) array
        As for `joint_angles`.

    Returns
    -------
    (21,) float64
        Of joint j the bone that ends there, on the palm the way from the wrist; NaN for the wrist.

    Raises
    ------
    InputError
        As `joint_angles`.
    """
    lengths = np.full(21, np.nan)
    lengths[1:] = _lengths(_check(joints)) / USUAL
    lengths /= np.median(lengths[1:])
    return lengths


def _check(joints: Any) -> _Array:
    """Return the joints as a new array, the wrist at the origin and the farthest coordinate at 1."""
    try:
        hand = np.array(joints, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"joints is a {type(joints).__name__} not all of numbers; give an array (21, 3)") from None
    if hand.shape != (21, 3):
        raise InputError(f"joints have shape {hand.shape}; give the 21 joints of a hand, (21, 3)")
    near = (np.abs(hand) <= MAX_REACH).all(axis=1)
    if not near.all():
        joint = int(near.argmin())
        raise InputError(f"joint {joint} is at {hand[joint].tolist()}; give finite numbers, metres")
    hand -= hand[0].copy()
    hand /= max(float(np.abs(hand).max()), 1e-12)
    lengths = _lengths(hand)
    if lengths.min() < 1e-4:
        end = int(lengths.argmin())
        raise InputError(f"joints {PARENTS[end]} and {end + 1} are in one place; give the joints of a hand")
    return hand


def _lengths(hand: _Array) -> _Array:
    """Lengths (20,) of the bones that end at joints 1 to 20."""
    lengths: _Array = np.linalg.norm(hand[1:] - hand[PARENTS], axis=1)
    return lengths


def _dot(a: _Array, b: _Array) -> _Array:
    product: _Array = (a * b).sum(axis=-1)
    return product


def _unit(vectors: _Array) -> _Array:
    """Vectors made 1 long; those of no length stay so."""
    unit: _Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit


def _square(vectors: _Array, to: _Array) -> _Array:
    """Directions at right angles to unit vectors, nearest to what is given."""
    return _unit(vectors - _dot(vectors, to)[..., None] * to)
