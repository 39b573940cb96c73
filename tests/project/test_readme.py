# SPDX-License-Identifier: Apache-2.0
"""Every command and program in README.md runs as it stands there, and leaves what is said of it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
from readme_commands import BOARD_CAMERA, DATA, ROOT, inline_code, lay_out, parse

README = (ROOT / "README.md").read_text("utf-8")
COMMANDS, PROGRAMS = parse(README)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


class Desk(NamedTuple):
    """A folder of its own to run a command in, and the environment's commands before all others."""

    folder: Path

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        lay_out(command, self.folder)
        line = ["bash", "-o", "pipefail", "-c", command]
        return subprocess.run(
            line, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )

    def open(self, command: str) -> subprocess.Popen[str]:
        lay_out(command, self.folder)
        # A shell that put the tests into the background has told them, and what they start, to ignore Ctrl-C.
        return subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # An empty cache: what this machine has measured or installed before is not there.
        return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "CMR_CACHE": str(self.folder / "cache")}

    def files(self, *patterns: str) -> None:
        for pattern in patterns:
            found = list(self.folder.glob(pattern))
            assert found, f"{pattern} was not written"
            assert all(path.stat().st_size for path in found), f"{pattern} is empty"


@pytest.fixture
def desk() -> Iterator[Desk]:
    with TemporaryDirectory() as folder:  # not `tmp_path`, which is kept: a checkpoint has 300 MB
        yield Desk(Path(folder))


def _ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def _calibrated(desk: Desk) -> None:
    camera = json.loads((desk.folder / "camera.json").read_text())
    assert camera["fx"] == pytest.approx(BOARD_CAMERA.fx, rel=0.03)
    assert camera["fy"] == pytest.approx(BOARD_CAMERA.fy, rel=0.03)


def _two_hands(desk: Desk) -> None:
    with np.load(desk.folder / "results" / "hands.npz") as arrays:
        assert arrays["found"].sum() == 2


class Run(NamedTuple):
    """What a command that runs as it stands must leave and print.

    `after` is the command that writes what this one reads; it is run before, in the same folder.
    """

    files: tuple[str, ...] = ()
    says: str = ""
    slow: bool = False
    after: str | None = None
    check: Callable[[Desk], None] = lambda desk: None


_TRACKED = ("results/hands.jsonl", "results/*_overlay.png", "results/*_hand0.ply")
_BAKE = "python -m cmr_models.synth.bake held_out --count 500 --seed 1000"
_AS_PHOTOS = "python -m cmr_models.synth.as_photos held_out held_out_photos"
_EXPORT_REFERENCE = "cmr-export --ckpt cmr_pg.pt --assets template --out cmr_pg.cmr"

RUNS: dict[str, Run] = {
    "cmr-track photo.jpg --camera camera.json --out results": Run(_TRACKED, "^1 of 1 images"),
    "cmr-track video.mp4 --camera 500,500,320,240 --out results": Run(
        ("results/hands.jsonl", "results/video_overlay.mp4"), "^[56] of 6 images or frames"
    ),
    "cmr-track photos/ --npz --mesh-format glb --out results": Run(
        ("results/hands.npz", "results/one_hand0.glb", "results/two_hand0.glb"), "^2 of 2 images", check=_two_hands
    ),
    "ls *.jpg | cmr-track - --out results": Run(_TRACKED, "^2 of 2 images"),
    "cmr-calibrate board.mp4 --board 9x6 --out camera.json": Run(("camera.json",), check=_calibrated),
    "cmr-doctor": Run(says="^all is well"),
    "cmr-export --ckpt models/weights/hand.pt --detector models/weights/palm_detector.npz --out hand.cmr": Run(
        ("hand.cmr",), r"(?s)mesh\.vertices.*^hand\.cmr: [\d,]+ bytes", slow=True
    ),
    _EXPORT_REFERENCE: Run(("cmr_pg.cmr",), r"(?s)mesh\.vertices.*^cmr_pg\.cmr: [\d,]+ bytes"),
    "cmr-track hand.jpg --model cmr_pg.cmr --box 0,0,224,224 --side right --out results": Run(
        _TRACKED, "^1 of 1 images", slow=True, after=_EXPORT_REFERENCE
    ),
    "cmr-eval joints3d DIR": Run(says=r"(?s)images.*\b1\b.*root-relative, mm"),
    "python -m cmr_export.report hand.cmr": Run(says=r"(?s)^prior .* M .*Conv.*^mesh .*^sum "),
    "cmr-bench clip.mp4 --threads 1 2": Run(
        says=r"(?s)^cold start.*1 thread .*2 threads.*^whole frame.*^stages of", slow=True
    ),
    "python -m cmr_models.synth.sheet sheet.png": Run(("sheet.png",), slow=True),
    _BAKE: Run(("held_out/rgba.npy",)),
    _AS_PHOTOS: Run(("held_out_photos/annotations.json",), "^500 photos", after=_BAKE),
    "cmr-eval joints3d held_out_photos --sheet worst.png --worst 24": Run(
        ("worst.png",), r"(?s)^images +500$.*^found +(9\d|100)\.", slow=True, after=_AS_PHOTOS
    ),
}


def _parses(command: str, desk: Desk) -> None:
    """Its help is shown, and the parser knows every option of it and misses none."""
    assert "usage:" in _ok(desk.run(f"{command} --help"))
    done = desk.run(f"{command} --no-such-option")
    assert done.returncode == 2
    assert done.stderr.endswith(": error: unrecognized arguments: --no-such-option\n"), done.stderr


def _helps(command: str, desk: Desk) -> None:
    assert "usage:" in _ok(desk.run(f"{command} --help"))


def _extra_exists(command: str, desk: Desk) -> None:
    what = re.fullmatch(r"pip install '?\.(?:\[(\w+)\])?'?", command)
    assert what
    needed = PROJECT["dependencies"] if what[1] is None else PROJECT["optional-dependencies"][what[1]]
    assert needed


def _dry_run(*steps: str) -> Callable[[str, Desk], None]:
    """The target exists, and its recipe has these steps."""

    def check(command: str, desk: Desk) -> None:
        shown = _ok(desk.run(f"{command} --dry-run --directory {ROOT}"))
        for step in steps:
            assert re.search(step, shown), step

    return check


def _live(command: str, desk: Desk) -> None:
    """A webcam that is not there is one line; a film in its place is shown until Ctrl-C, and written."""
    absent = desk.run(command.replace(" 0 --view", " 97"))
    assert absent.returncode == 2
    assert re.fullmatch(r"cmr-track: webcam 97 cannot be opened.*\n", absent.stderr)
    pytest.importorskip("viser")
    with desk.open(command.replace(" 0 ", " video.mp4 ")) as process:
        patience = threading.Timer(100, process.kill)
        patience.start()
        try:
            lines = [process.stderr.readline(), process.stderr.readline()]
            assert "the last frame stays" in lines[1], lines
            with urllib.request.urlopen(re.search(r"http://\S+", lines[0])[0], timeout=20) as page:
                assert page.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert "of 6 images or frames with a hand" in process.stdout.read()
        finally:
            patience.cancel()
            process.kill()
    desk.files("results/hands.jsonl", "results/video_overlay.mp4")


def _absent_peer(command: str, desk: Desk) -> None:
    done = desk.run(command)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.search(r"`(.*?)`", line)[1] in COMMANDS  # the mend that it names


def _two_networks(command: str, desk: Desk) -> None:
    lines = _ok(desk.run(f"{command} handnet mobrecon_ds")).splitlines()
    assert sum(line.startswith("handnet ") for line in lines) == 2  # stages
    assert sum(line.startswith("mobrecon_ds ") for line in lines) == 2
    _helps(command, desk)


class Exempt(NamedTuple):
    """Why a command does not run as it stands, and what is checked in its place."""

    reason: str
    check: Callable[[str, Desk], None]


_NAME = Exempt("the name of a command that runs elsewhere in the text", _helps)
_INSTALLS = Exempt("it would install packages; tests/project/test_wheel.py installs the wheel", _extra_exists)
_LONG = Exempt("it takes minutes to hours, and data or another environment", _parses)

EXCEPTIONS: dict[str, Exempt] = {
    **dict.fromkeys(
        ["pip install .", *(f"pip install '.[{e}]'" for e in ("view", "mesh", "bench", "export", "train"))], _INSTALLS
    ),
    "cmr-track 0 --view --out results": Exempt("there is no camera, and the page stays until Ctrl-C", _live),
    "python -m cmr_runtime.bench.peer": Exempt("it installs 500 MB", _helps),
    **dict.fromkeys(
        [
            "cmr-bench clip.mp4 --peer mediapipe",
            "cmr-eval joints3d DIR --peer mediapipe",
            "cmr-bench clip.mp4 --precision fp32 int16 int8 --threads 1 2 --peer mediapipe --markdown",
        ],
        Exempt("it needs the environment of 500 MB", _absent_peer),
    ),
    "make demo": Exempt(
        "it makes an environment; tests/project/test_demo.py runs its steps",
        _dry_run("cmr-export --ckpt models/weights/hand.pt", "cmr-track examples/data/sample.jpg .*--out out/demo"),
    ),
    "make test": Exempt("it is what runs this test", _dry_run("ruff check", "mypy", "pytest -n auto\n")),
    "cmr-calibrate": _NAME,
    "cmr-export": _NAME,
    "cmr-track": _NAME,
    "python -m cmr_models.summary": Exempt("all 21 networks take 20 s", _two_networks),
    "python -m cmr_models.synth.bake data/synth --size 224": _LONG,
    "python -m cmr_models.train runs/pg --synth data/synth --network cmr_pg_resnet18": _LONG,
    "python -m benchmarks.networks --threads 1 2": _LONG,
    "python -m benchmarks.finding DIR --labels labels.json --mediapipe PYTHON": _LONG,
    "python -m benchmarks.tracking CLIP": _LONG,
}
_FIRST = {run.after for run in RUNS.values()}


def _steps(command: str) -> list[str]:
    """The command and, before it, those that write what it reads."""
    before = RUNS[command].after
    return [*(_steps(before) if before else []), command]


def test_the_tables_have_every_command_and_no_other() -> None:
    known = [*RUNS, *EXCEPTIONS]
    assert len(known) == len(set(known))
    assert set(COMMANDS) - set(known) == set(), "in README.md, but nothing is said here of what they must do"
    assert set(known) - set(COMMANDS) == set(), "no longer in README.md"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] if run.slow else [])
        for command, run in RUNS.items()
        if command not in _FIRST
    ],
)
def test_it_runs_as_it_stands(command: str, desk: Desk) -> None:
    for step in _steps(command):
        run = RUNS[step]
        shown = _ok(desk.run(step))
        assert re.search(run.says, shown, re.MULTILINE), shown
        desk.files(*run.files)
        run.check(desk)


@pytest.mark.parametrize("command", EXCEPTIONS)
def test_what_cannot_run_here_is_there(command: str, desk: Desk) -> None:
    EXCEPTIONS[command].check(command, desk)


def test_the_programs_run_as_they_stand(desk: Desk) -> None:
    (program,) = PROGRAMS
    lay_out("", desk.folder)
    done = subprocess.run([sys.executable, "-c", program], cwd=desk.folder, capture_output=True, text=True, check=False)
    lines = _ok(done).splitlines()
    side, *place = re.fullmatch(r"(\w+) \[ *(\S+) +(\S+) +(\S+?) *\]", lines[0]).groups()
    about = json.loads((DATA / "sample.json").read_text())
    assert side == about["handedness"]
    assert np.linalg.norm(np.array(place, float) - about["joints_camera_m"][9]) < 0.05
    assert re.fullmatch(r"\(\d+, 3\) \(21, 3\)", lines[1])
    desk.files("hand.ply")


def test_options_named_in_the_text_are_options(desk: Desk) -> None:
    named = {code.split()[0] for code in inline_code(README) if code.startswith("--")}
    assert named
    shown = _ok(desk.run("; ".join(f"{command} --help" for command in PROJECT["scripts"])))
    assert named - set(re.findall(r"--[\w-]+", shown)) == set()


def test_the_table_of_examples_names_those_that_are_there() -> None:
    named = {code for code in inline_code(README) if re.fullmatch(r"\w+\.py", code)}
    there = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert named == {name for name in there if not name.startswith("make_")}


def test_commands_are_found_wherever_they_stand() -> None:
    text = """
Text with `cmr-a --b`, `python -m c
d`, `cmr-runtime` and `name`; `cmr-a --b` again.

```python
x = 1  # cmr-none
```
```sh
# only a remark
$ cmr-e 'f#g' \\
  --h       # what it does
make i
```
  ~~~
  ls | j
  ~~~
"""
    commands, programs = parse(text)
    assert commands == ["cmr-e 'f#g'    --h", "make i", "ls | j", "cmr-a --b", "python -m c d"]
    assert programs == ["x = 1  # cmr-none\n"]
    with pytest.raises(ValueError, match="ruby"):
        parse("```ruby\nputs 1\n```")
