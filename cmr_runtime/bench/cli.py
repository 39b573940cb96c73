# SPDX-License-Identifier: Apache-2.0
"""`cmr-bench`: cold start, stages and whole frames of bundles on a clip, beside peers that see the same frames."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime

from ..command import command
from ..errors import CmrError, InputError
from ..options import PRECISION, up_to
from ..precision import PRECISIONS
from ..progress import Progress
from ..session import CPU, MAX_THREADS
from ..tracker import MAX_HANDS
from . import entrants as field
from .clip import prepare
from .figures import compare
from .machine import describe_machine, describe_versions
from .plot import draw
from .reading import read_report
from .report import KIND, SCHEMA, Machine, Plan, Report, Settings, to_json
from .tables import each_frame, markdown, table
from .turns import requests, run

__all__ = ["main", "measure"]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cmr-bench`; returns the exit code: 0, 2 after an error (one line), 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        if (options.clip is None) == (options.read is None):
            raise InputError("give a clip to measure on (an image, a video or a webcam's number), or --read FILE")
        report = measure(options) if options.read is None else read_report(Path(options.read))
        if options.plot is not None:
            draw(report, options.plot)
    except (CmrError, OSError) as error:
        print(f"cmr-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(to_json(report), end="")
    else:
        print(markdown(report) if options.markdown else table(report))
        if options.each:
            print("", *each_frame(report), sep="\n")
    return 0


def measure(options: argparse.Namespace) -> Report:
    """Measure what the command's options say.

    Raises
    ------
    CmrError
        Options, clip, bundle, or a contestant that does not work.
    OSError
        The frames cannot be written.
    """
    plan = Plan(options.passes, options.block, options.warm_up, options.cold_starts)
    machine = Machine(**describe_machine())  # type: ignore[arg-type]  # before it is loaded by this run
    entrants = _entrants(options)
    with tempfile.TemporaryDirectory() as folder:
        clip = prepare(options.clip, Path(folder), options.size, options.frames)
        steps = len(entrants) * (plan.cold_starts + 1 + len(requests(clip.frames, plan)))
        with Progress(clip.name, steps) as progress:
            entries = run(entrants, clip, plan, progress.step)
    mine = [entry for entry, entrant in zip(entries, entrants, strict=True) if entrant.is_ours]
    peers = [entry for entry, entrant in zip(entries, entrants, strict=True) if not entrant.is_ours]
    return Report(
        kind=KIND,
        schema=SCHEMA,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        machine=machine,
        versions=describe_versions(),
        providers=list(onnxruntime.get_available_providers()),
        settings=Settings(
            clip=clip.name,
            still=clip.still,
            width=clip.width,
            height=clip.height,
            rate=clip.rate,
            frames=clip.frames,
            num_hands=options.num_hands,
            plan=plan,
        ),
        entries=entries,
        compared=[compare(entry, peer) for entry in mine for peer in peers],
    )


def _entrants(options: argparse.Namespace) -> list[field.Entrant]:
    models = options.model or [None]
    precisions = options.precision or [None]
    found = field.ours(models, options.threads, options.num_hands, options.provider, precisions)
    if "mediapipe" in options.peer:
        found += field.mediapipe(options.peer_python, options.num_hands)
    if "reference" in options.peer:
        threads = options.threads[0]
        found.append(field.reference(options.reference, options.assets, models[0], threads, options.num_hands))
    return found


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 8192 and 16 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give WIDTHxHEIGHT, each 16 to 8192, such as 640x360")
    return int(width), int(height)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cmr-bench",
        usage="%(prog)s CLIP [options]\n       %(prog)s --read FILE [options]",
        description="Measure cold start, stages and whole frames on the machine at hand, and peers on the same frames.",
        epilog="Example: cmr-bench clip.mp4 --threads 1 2 --peer mediapipe --plot times.png. What is in a figure: "
        "benchmarks/README.md.",
    )
    parser.add_argument("clip", nargs="?", metavar="CLIP", help="image, video, or number of a webcam")
    parser.add_argument("--model", nargs="+", metavar="B", help="bundles; default: that of the package")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help=PRECISION)
    parser.add_argument(
        "--threads", type=up_to(MAX_THREADS), nargs="+", default=[1], metavar="N", help="inside a stage (1)"
    )
    parser.add_argument("--provider", nargs="+", default=CPU, metavar="P", help=f"of ONNX Runtime ({CPU[0]})")
    parser.add_argument("--num-hands", type=up_to(MAX_HANDS), default=1, metavar="N", help="most hands in a frame (1)")
    peer = parser.add_argument_group("peers")
    peer.add_argument(
        "--peer", nargs="+", choices=("mediapipe", "reference"), default=[], help="who takes part besides"
    )
    peer.add_argument(
        "--peer-python",
        metavar="PATH",
        help="interpreter with mediapipe; default: the environment of `python -m cmr_runtime.bench.peer`",
    )
    peer.add_argument("--reference", metavar="CLONE", help="clone of the reference implementation; its code is run")
    peer.add_argument("--assets", metavar="DIR", help="folder with its transform.pkl and j_reg.npy")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--size", type=_size, default=(640, 360), metavar="WxH", help="frames are fitted in (640x360)")
    shown.add_argument("--frames", type=up_to(100_000), default=300, metavar="N", help="most frames of the clip (300)")
    shown.add_argument("--passes", type=up_to(1000), default=3, metavar="N", help="how often the clip is shown (3)")
    shown.add_argument("--block", type=up_to(10_000), default=30, metavar="N", help="frames in a turn (30)")
    shown.add_argument("--warm-up", type=up_to(10_000), default=30, metavar="N", help="frames before (30)")
    shown.add_argument("--cold-starts", type=up_to(100), default=5, metavar="N", help="fresh processes of each (5)")
    out = parser.add_argument_group("output")
    form = out.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object, which --read takes")
    form.add_argument("--markdown", action="store_true", help="print a table for a README")
    out.add_argument("--each", action="store_true", help="print a line for each frame, too")
    out.add_argument("--plot", metavar="FILE", help="draw the times of all frames (needs matplotlib)")
    out.add_argument("--read", metavar="FILE", help="measure nothing: show what a --json run found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
