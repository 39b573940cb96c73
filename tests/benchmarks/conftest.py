# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run from a checkout and are not installed: put them, and the disc bundle, where tests find them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

for folder in (ROOT, ROOT / "tests" / "runtime"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
