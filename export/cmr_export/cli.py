# SPDX-License-Identifier: Apache-2.0
"""`cmr-export`: checkpoint in, bundle out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Export a checkpoint; print parity and cost; return 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="cmr-export", description="Turn a trained checkpoint into one bundle for cmr_runtime."
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint (.pt) of cmr_models.train")
    parser.add_argument("--out", type=Path, default=Path("hand.cmr"), help="bundle to write (default: hand.cmr)")
    parser.add_argument("--name", help="name of the model in the bundle (default: the checkpoint's)")
    args = parser.parse_args(argv)
    try:
        from cmr_runtime.errors import CmrError

        from .bundle import export
        from .parity import LIMIT
        from .report import table
    except ImportError as error:
        print(f"cmr-export: {error}; install what it needs with: pip install 'cmr-runtime[export]'", file=sys.stderr)
        return 2
    try:
        bundle, differences = export(args.ckpt, args.out, args.name)
    except (CmrError, ValueError, RuntimeError, OSError) as error:  # a ParityError is a RuntimeError
        print(f"cmr-export: {' '.join(str(error).split())}", file=sys.stderr)  # torch's messages have several lines
        return 2
    print(f"parity, PyTorch against ONNX Runtime (limit {LIMIT:g}):")
    for name, value in differences.items():
        print(f"  {name:26s}{value:.1e}")
    print(table(bundle))
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
