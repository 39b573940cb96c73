# SPDX-License-Identifier: Apache-2.0
"""How steady a followed hand is and how far it lags: ``python -m benchmarks.tracking [CLIP]``.

Synthetic hands of known truth say what smoothing costs and gains; rendered clips, whether hands keep their identity; a
clip of the caller's, how much is followed and how much it trembles, ours and MediaPipe's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmr_models.hand import load_hand
from cmr_runtime import Bundle, Camera, Hand, HandMeshTracker, InputError
from cmr_runtime.bench.worker import PeerError
from cmr_runtime.errors import CmrError
from cmr_runtime.options import PRECISION
from cmr_runtime.precision import CHOICES, open_bundle
from cmr_runtime.rig import Rig
from cmr_runtime.smoothing import Smoother, Smoothing

from . import tracking_crossing as crossing
from .tracking_figures import FloatArray, OneEuro, jitter, lag, resting
from .tracking_moving import film, followed
from .tracking_peer import Peer, follow
from .tracking_scenes import ROOT, move, observe, topology

__all__ = ["clip_figures", "crossings", "main", "moving", "synthetic"]

HERTZ = (0.0, 0.5, 1.0, 2.0)
SECONDS, SKIP = 5.0, 0.5
SPREAD = 0.08
#: One-Euro filters for comparison, (cut-off, gain, speed's cut-off) of direction in metres, log depth, and shape in
#: metres: the best of a grid on other hands of the same kind, among those that halve the jitter at rest.
ONE_EURO = ((1.0, 160.0, 4.0), (1.0, 16.0, 4.0), (1.0, 160.0, 1.0))


def _one_euro(joints: FloatArray, times: FloatArray) -> FloatArray:
    """Smooth joints (T, J, 3) by One-Euro filters of direction, depth and shape."""
    root = joints[:, ROOT]
    filters = [OneEuro(*settings) for settings in ONE_EURO]
    direction = filters[0].over(root[:, :2] / root[:, 2:] * root[:, 2:].mean(), times) / root[:, 2:].mean()
    depth = np.exp(filters[1].over(np.log(root[:, 2:]), times))
    shape = filters[2].over(joints - root[:, None], times)
    return shape + (depth * np.column_stack([direction, np.ones(len(depth))]))[:, None]


def _figures(joints: FloatArray, truth: FloatArray, times: FloatArray) -> dict[str, float]:
    root, true_root = joints[:, ROOT], truth[:, ROOT]
    counted = times >= SKIP
    parts = {
        "direction": (root[:, :2] / root[:, 2:], true_root[:, :2] / true_root[:, 2:]),
        "depth": (root[:, 2:], true_root[:, 2:]),
        "shape": (joints - root[:, None], truth - true_root[:, None]),
    }
    return {
        "error_mm": 1e3 * float(np.linalg.norm(joints - truth, axis=2)[counted].mean()),
        "jitter_joints_mm": 1e3 * jitter(joints[counted]),
        "jitter_depth_mm": 1e3 * jitter(root[counted, 2:]),
        **{f"lag_{name}_ms": 1e3 * lag(*part, times) for name, part in parts.items()},
    }


def synthetic(hands: int, settings: Smoothing, seed: int = 1000) -> list[dict[str, Any]]:
    """Figures of synthetic hands by frequency, unsmoothed, smoothed, and with One-Euro filters.

    Parameters
    ----------
    hands : int
        How many for each frequency; the figures are means.
    settings : Smoothing
        Of the second.
    seed : int
        Of the first hand.
    """
    model = load_hand()
    rig, rows = Rig(topology(model), ROOT), []
    for hertz in HERTZ:
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(seed, seed + hands):
            motion = move(number, hertz, SECONDS, hand=model)
            seen, smoother = observe(motion, number, hand=model), Smoother(settings, rig, SPREAD)
            smoothed = [smoother(hand, float(t)) for hand, t in zip(seen, motion.times, strict=True)]
            plain = np.array([hand.joints for hand in seen], dtype=np.float64)
            ways = {
                "unsmoothed": plain,
                "smoothed": np.array([hand.joints for hand in smoothed], dtype=np.float64),
                "One-Euro": _one_euro(plain, motion.times),
            }
            for way, joints in ways.items():
                found.setdefault(way, []).append(_figures(joints, motion.joints, motion.times))
        for way, each in found.items():
            means = {key: float(np.mean([row[key] for row in each])) for key in each[0]}
            if not hertz:  # what rests has no lag
                means = {key: value for key, value in means.items() if not key.startswith("lag")}
            rows.append({"hertz": hertz, "way": way, **means})
    return rows


def crossings(bundle: Bundle | None, pairs: int, seed: int = 3) -> dict[str, Any]:
    """Count rendered hands that cross and keep their identity, and frames until one that left is found again.

    Hands are counted in ``kept`` and its ``clips`` only if both were found before they crossed.
    """
    drawn = crossing.pick(seed, 4 * pairs)
    hands = crossing.found(bundle, drawn)
    share = f"{len(hands)} of {len(drawn)}"
    hands = hands[: 2 * min(pairs, len(hands) // 2)]
    kept = {name: {"kept": 0, "clips": 0} for name in ("left and right", "right and right")}
    for number, (one, other) in enumerate(zip(hands[::2], hands[1::2], strict=True)):
        for name, partner in (("left and right", crossing.mirror(other)), ("right and right", other)):
            outcome = crossing.identities(bundle, crossing.cross(one, partner, number))
            if outcome is not None:
                kept[name]["kept"] += outcome
                kept[name]["clips"] += 1
    back = [crossing.return_after(bundle, crossing.leave(hand, n, away=40)) for n, hand in enumerate(hands)]
    return {"pairs": len(hands) // 2, "found_at_rest": share, "crossing": kept, "frames_until_found_again": back}


def moving(bundle: Bundle | None, films: int, seconds: float = 2.0, seed: int = 2000) -> list[dict[str, Any]]:
    """Errors against the truth in rendered clips of moving hands, with and without recalled cues; one row for each."""
    rows = []
    for number, hertz in enumerate(HERTZ[1:]):
        clips = [film(seed + number * films + k, hertz, seconds) for k in range(films)]
        for way, recall in (("recalled", True), ("prior in every frame", False)):
            rows.append({"hertz": hertz, "way": way, **followed(bundle, clips, recall=recall)})
    return rows


def _read(path: str) -> tuple[list[crossing.Image], float]:
    capture, clip = cv2.VideoCapture(path), []
    rate = capture.get(cv2.CAP_PROP_FPS) or 30.0
    while (frame := capture.read())[0]:
        clip.append(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
    capture.release()
    if not clip:
        raise InputError(f"{path} gives no frames; is it a video that OpenCV reads?")
    return clip, rate


def clip_figures(
    bundle: Bundle | None, clip: list[crossing.Image], rate: float, peers: dict[str, Peer]
) -> dict[str, Any]:
    """Figures of one hand in a clip: frames followed, and jitter on the frames at rest."""
    camera = Camera.from_fov(60.0, clip[0].shape[1], clip[0].shape[0])
    results: dict[str, list[Hand | None]] = {}
    for way, smoothing in (("unsmoothed", False), ("smoothed", True)):
        with HandMeshTracker(bundle, smoothing=smoothing) as tracker:
            frames = [tracker.track(image, camera, number / rate) for number, image in enumerate(clip)]
        results[way] = [hands[0] if hands else None for hands in frames]
    nothing = np.full((21, 3), np.nan)
    plain = results["unsmoothed"]
    rest = resting(np.array([nothing[:, :2] if hand is None else hand.keypoints for hand in plain], dtype=np.float64))
    joints = {
        way: np.array([nothing if hand is None else hand.joints for hand in hands], dtype=np.float64)
        for way, hands in results.items()
    }
    followed = {way: sum(hand is not None for hand in hands) for way, hands in results.items()}
    for name, peer in peers.items():
        joints[name], followed[name] = follow(peer, clip, [hand and hand.roi for hand in plain], camera)
    rows = [
        {
            "way": way,
            "followed": followed[way],
            "jitter_joints_mm": 1e3 * jitter(each, rest),
            "jitter_shape_mm": 1e3 * jitter(each - each[:, ROOT, None], rest),
            "jitter_depth_mm": 1e3 * jitter(each[:, ROOT, 2:], rest),
        }
        for way, each in joints.items()
    ] if rest.any() else [{"way": way, "followed": count} for way, count in followed.items()]  # fmt: skip
    return {"frames": len(clip), "resting": int(rest.sum()), "rows": rows}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of the same kind as text; what a row lacks is a dash."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [
        [f"{row[n]:.1f}" if isinstance(row.get(n), float) else str(row.get(n, "-")) for n in names] for row in rows
    ]
    widths = [max(len(cell) for cell in column) for column in zip(names, *cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [names, *cells]]
    return "\n".join(lines)


def _peers(python: str | None) -> dict[str, Peer]:
    try:
        return {f"MediaPipe {model}": Peer(model, python) for model in ("full", "lite")}
    except PeerError as error:
        print(f"without MediaPipe: {error}", file=sys.stderr)
        return {}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", help="video of one hand; frames at rest are found in it")
    parser.add_argument("--model", metavar="BUNDLE", help="default: the bundle that comes with the package")
    parser.add_argument("--precision", choices=CHOICES, help=PRECISION)
    parser.add_argument("--peer-python", metavar="PATH", help="of an environment with mediapipe and ai-edge-litert")
    parser.add_argument("--hands", type=int, default=6, metavar="N", help="synthetic hands for each frequency")
    parser.add_argument("--pairs", type=int, default=10, metavar="N", help="rendered pairs of hands that cross")
    parser.add_argument("--films", type=int, default=4, metavar="N", help="rendered moving hands for each frequency")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    try:
        bundle = open_bundle(args.model, args.precision)
        report: dict[str, Any] = {"synthetic": synthetic(args.hands, Smoothing())}
        report["crossing"] = crossings(bundle, args.pairs)
        if args.films > 0:
            report["moving"] = moving(bundle, args.films)
        if args.clip is not None:
            clip, rate = _read(args.clip)
            peers = _peers(args.peer_python)
            try:
                report["clip"] = {"name": Path(args.clip).name, **clip_figures(bundle, clip, rate, peers)}
            finally:
                for peer in peers.values():
                    peer.close()
    except CmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2) if args.json else _text(report))
    return 0


def _text(report: dict[str, Any]) -> str:
    crossed = report["crossing"]
    kept = ", ".join(f"{each['kept']} of {each['clips']} ({name})" for name, each in crossed["crossing"].items())
    lines = [
        "synthetic hands: camera-space error, mean second difference, lag",
        table(report["synthetic"]),
        "",
        f"rendered hands of which each by itself is found at rest: {crossed['found_at_rest']}",
        f"{crossed['pairs']} pairs of these cross; where both were found before, identities are kept in {kept}",
        f"frames until a hand that left is found again: {crossed['frames_until_found_again']}",
    ]
    if "moving" in report:
        lines += [
            "",
            "rendered hands that move, unsmoothed: share of frames with a hand, errors in pixels and millimetres",
        ]
        lines.append(table(report["moving"]))
    if "clip" in report:
        clip = report["clip"]
        lines += ["", f"{clip['name']}: {clip['frames']} frames, {clip['resting']} at rest; mean second difference"]
        lines.append(table(clip["rows"]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
