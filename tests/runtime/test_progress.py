# SPDX-License-Identifier: Apache-2.0
import io

import pytest

from cmr_runtime.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rate_and_time_left() -> None:
    progress = Progress("clip", 200, io.StringIO())
    for _ in range(50):
        progress.step()
    assert progress.text(10.0).endswith("50/200  5.0/s  0:30 left")
    assert "[######............" in progress.text(10.0)
    assert progress.text(1000.0).endswith("0.1/s  50:00 left")
    assert progress.text(2000.0).endswith("1:40:00 left")


def test_a_total_may_be_unknown_or_wrong() -> None:
    progress = Progress("webcam0", None, io.StringIO())
    assert "left" not in progress.text(1.0)
    short = Progress("clip", 1, io.StringIO())
    for _ in range(3):
        short.step()
    assert short.text(1.0).endswith("1/1  3.0/s  0:00 left")


def test_it_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("cmr_runtime.progress.time.monotonic", lambda: now[0])
    file, terminal = io.StringIO(), _Terminal()
    for stream in (file, terminal):
        with Progress("clip", 4, stream) as progress:
            for _ in range(3):
                now[0] += 0.5
                progress.step()
                progress.step()  # at once after the other: not drawn again
    assert file.getvalue() == ""
    assert terminal.getvalue().count("clip") == 3
    assert terminal.getvalue().endswith("\r\x1b[K")  # nothing of it stays
