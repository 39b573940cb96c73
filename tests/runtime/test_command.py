# SPDX-License-Identifier: Apache-2.0
import importlib.util
import os
import subprocess
import sys

import pytest

from cmr_runtime.command import CLOSED, command

EXPORTS = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="cmr_export needs torch")


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error there")
@pytest.mark.parametrize("module", ["cmr_runtime.doctor", pytest.param("cmr_export.report", marks=EXPORTS)])
def test_a_command_whose_reader_has_gone_ends_quietly(module: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", module], stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (CLOSED, "")


def test_a_command_returns_its_own_status() -> None:
    """Its arguments reach it, and errors of its own leave it."""
    assert command(lambda arguments: len(arguments or ()))(["a", "b"]) == 2
    with pytest.raises(ZeroDivisionError):
        command(lambda arguments: 1 // 0)([])
