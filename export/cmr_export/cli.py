# SPDX-License-Identifier: Apache-2.0
"""`cmr-export`: checkpoint in, bundle out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cmr_runtime.command import command

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cmr-export", description="Turn a trained checkpoint into one bundle for cmr_runtime."
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint, of cmr_models.train or the reference's")
    parser.add_argument("--out", type=Path, default=Path("hand.cmr"), help="bundle to write (default: hand.cmr)")
    parser.add_argument("--name", help="name of the model in the bundle (default: the checkpoint's)")
    parser.add_argument(
        "--assets",
        type=Path,
        metavar="DIR",
        help="folder with the reference's transform.pkl and j_reg.npy (hand), or transform_body.pkl and, if at hand, "
        "J_regressor_h36m*.npy (body)",
    )
    parser.add_argument(
        "--arch", metavar="NAME", help="network that the reference's weights are taken for; refused if they do not fit"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help="side of the images (default: the checkpoint's; of the reference's 224, body 256, as it was trained)",
    )
    parser.add_argument("--dilation", type=int, metavar="N", help="of the spirals it was trained with (default: 1)")
    parser.add_argument(
        "--joint-regressor", type=Path, metavar="FILE", help=".npy (J, V), joints in the order of the heat maps"
    )
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"], default="fp32", help="of the stored weights")
    parser.add_argument("--calibration", type=Path, metavar="FOLDER", help="crops for int8 (default: rendered hands)")
    parser.add_argument("--detector", type=Path, metavar="FILE", help="palm.npz of cmr_models.detector.convert")
    parser.add_argument("--format", choices=["onnx", "ort"], default="onnx", help="of the graphs (default: onnx)")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Export a checkpoint; print parity and cost; return 0, or 2 with one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        from cmr_runtime.errors import CmrError

        from .bundle import export
        from .report import report
    except ImportError as error:
        print(f"cmr-export: {error}; install what it needs with: pip install 'cmr-runtime[export]'", file=sys.stderr)
        return 2
    try:
        done = export(
            args.ckpt,
            args.out,
            name=args.name,
            assets=args.assets,
            arch=args.arch,
            joint_regressor=args.joint_regressor,
            size=args.size,
            dilation=args.dilation,
            precision=args.precision,
            calibration=args.calibration,
            form=args.format,
            detector=args.detector,
        )
    except (CmrError, ValueError, RuntimeError, OSError) as error:  # a ParityError is a RuntimeError
        print(f"cmr-export: {' '.join(str(error).split())}", file=sys.stderr)  # torch's messages have several lines
        return 2
    print(report(done))
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
