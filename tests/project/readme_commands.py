# SPDX-License-Identifier: Apache-2.0
"""What README.md tells a reader to type: the commands and Python programs in it, and the files that a command names."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmr_runtime import Camera

__all__ = ["BOARD_CAMERA", "DATA", "ROOT", "inline_code", "lay_out", "parse"]

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data"
#: The reference's outputs and mesh files, which lie beside the repository where they are at hand.
REFERENCE = ROOT.parent / "shared" / "reference" / "handmesh"
#: What films the checkerboard.
BOARD_CAMERA = Camera(430.0, 445.0, 250.0, 185.0, 480, 360)

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_SHELL = {"", "bash", "console", "sh", "shell"}
#: Inline code that is something to type, not a name: `cmr-runtime` is the package.
_COMMAND = re.compile(r"(cmr-(?!runtime\b)|python3? -m|pip install|make )")


def parse(markdown: str) -> tuple[list[str], list[str]]:
    """Commands, each once, and Python programs.

    A command is every line of a fence that has no language or a shell's, and inline code that begins as one does.

    Raises
    ------
    ValueError
        A fence in a language of which nothing is known.
    """
    lines: list[str] = []
    programs = []
    for _, language, text in _FENCE.findall(markdown):
        if language == "python":
            programs.append(text)
        elif language in _SHELL:
            lines += text.replace("\\\n", " ").splitlines()
        else:
            raise ValueError(f"a fence in {language!r}; say in {Path(__file__).name} what is done with it")
    typed = [re.sub(r"^\$ |(^|\s+)#\s.*$", "", line).strip() for line in lines]
    typed += [code for code in inline_code(markdown) if _COMMAND.match(code)]
    return list(dict.fromkeys(filter(None, typed))), programs


def inline_code(markdown: str) -> list[str]:
    """What stands in backticks outside fences, with its line breaks as spaces."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _FENCE.sub("", markdown))]


def lay_out(command: str, folder: Path) -> None:
    """Make, in a folder, the files that a command reads, and the folders of a clone beside them."""
    for name in ("benchmarks", "examples", "models"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    words = shlex.split(command)
    for before, word in zip(["", *words], words, strict=False):
        make = _MAKERS.get(word)
        if make is not None and before != "--out" and not (folder / word).exists():
            make(folder / word)


def _photo(path: Path) -> None:
    shutil.copy(DATA / "sample.jpg", path)


def _photos(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("one.jpg", "two.jpg"):
        _photo(folder / name)


def _camera(path: Path) -> None:
    path.write_text(json.dumps(json.loads((DATA / "sample.json").read_text())["camera"]))


def _write_video(path: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


def _clip(path: Path) -> None:
    """Film the sample, which moves to the right."""
    image = cv2.imread(str(DATA / "sample.jpg"))
    _write_video(path, [np.roll(image, 4 * number, axis=1) for number in range(6)])


def _board(path: Path) -> None:
    """Film a checkerboard of 9×6 inner corners at random places and slants before `BOARD_CAMERA`."""
    cell, columns, rows = 40, 12, 9  # of squares: a white one all around
    y, x = np.mgrid[: rows * cell, : columns * cell] // cell
    dark = ((x + y) % 2 == 0) & (x > 0) & (y > 0) & (x < columns - 1) & (y < rows - 1)
    texture = np.where(dark, 25, 235).astype(np.uint8)
    flat = np.array([[1 / cell, 0, 0.5 / cell - columns / 2], [0, 1 / cell, 0.5 / cell - rows / 2], [0, 0, 1]])
    rng = np.random.default_rng(3)
    frames = []
    for _ in range(12):
        turn, _ = cv2.Rodrigues(rng.uniform(-0.5, 0.5, 3))
        place = rng.uniform([-1, -1, 15], [1, 1, 20])  # squares
        warp = BOARD_CAMERA.matrix @ np.column_stack([turn[:, :2], place]) @ flat
        drawn = cv2.warpPerspective(
            texture, warp, (BOARD_CAMERA.width, BOARD_CAMERA.height), flags=cv2.INTER_AREA, borderValue=128
        )
        frames.append(cv2.cvtColor(drawn, cv2.COLOR_GRAY2BGR))
    _write_video(path, frames)


def _annotated(folder: Path) -> None:
    """Make a folder as `cmr-eval --help` has it: the sample and its truth."""
    folder.mkdir()
    _photo(folder / "sample.jpg")
    about = json.loads((DATA / "sample.json").read_text())
    entry = {
        "image": "sample.jpg",
        "handedness": about["handedness"],
        "K": Camera(**about["camera"]).matrix.tolist(),
        "joints_camera_m": about["joints_camera_m"],
    }
    (folder / "annotations.json").write_text(json.dumps([entry]))


def _bundle(path: Path) -> None:
    shutil.copy(ROOT / "cmr_runtime" / "data" / "hand.cmr", path)


def _reference_checkpoint(path: Path) -> None:
    """Fill a CMR-PG in place of the reference's weights, by the recipe that its outputs were computed with."""
    import torch

    _need_reference()
    fill = runpy.run_path(str(REFERENCE / "recipe.py"))["fill"]
    state = fill(json.loads((REFERENCE / "keys_cmr_pg_freihand.json").read_text()))
    torch.save({"model_state_dict": {key: torch.from_numpy(value) for key, value in state.items()}, "epoch": 38}, path)


def _reference_template(path: Path) -> None:
    _need_reference()
    path.symlink_to(REFERENCE)


def _need_reference() -> None:
    if not REFERENCE.is_dir():
        pytest.skip("the reference's mesh files are not at hand")


_MAKERS: dict[str, Callable[[Path], None]] = {
    "*.jpg": lambda path: _photos(path.parent),
    "DIR": _annotated,
    "board.mp4": _board,
    "camera.json": _camera,
    "clip.mp4": _clip,
    "cmr_pg.pt": _reference_checkpoint,
    "hand.cmr": _bundle,
    "hand.jpg": _photo,
    "photo.jpg": _photo,
    "photos/": _photos,
    "template": _reference_template,
    "video.mp4": _clip,
}
