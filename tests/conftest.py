# SPDX-License-Identifier: Apache-2.0
"""What the folders of tests share lies beside this file: put it where they find it."""

import sys
from pathlib import Path

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))
