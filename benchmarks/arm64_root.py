# SPDX-License-Identifier: Apache-2.0
"""A Debian arm64 root in a folder, whose programs run under QEMU without privileges and without binfmt_misc.

mmdebstrap checks and unpacks the packages and runs nothing of them; PRoot gives every program of the root, and whatever
that starts in turn, to QEMU's user-mode emulator.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmr_runtime.errors import CmrError

__all__ = ["COMPILER", "CPU", "GLIBC", "INTERPRETER", "MIRROR", "PYTHON", "RELEASE", "Root"]

MIRROR = "http://deb.debian.org/debian"
RELEASE = "bookworm"
#: Python and the C library of that release: what wheels have to fit.
PYTHON, GLIBC = "3.11", (2, 36)
#: NumPy's wheels need the system's libstdc++; a shell and coreutils are for what tests start.
PACKAGES = ("python3-venv", "libstdc++6", "coreutils", "dash")
#: Python of the root's virtual environment.
INTERPRETER = "/opt/cmr/bin/python"

#: Core of a Raspberry Pi 5: Armv8.2 with dot products, without SVE. QEMU's own choice has SVE, and under QEMU 7.2 ONNX
#: Runtime then crashes, or runs the networks without end.
CPU = "cortex-a76"
#: What Linux says of one such core. QEMU 7.2 shows the host's processor instead, on which ONNX Runtime crashes.
_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
#: What a running system has besides its packages: that processor, and the name of this machine.
_FILES = {
    "cpuinfo": _CPUINFO,
    **{f"sys/devices/system/cpu/{name}": "0\n" for name in ("online", "possible", "present")},
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}

#: All that a program of the root is told of where it runs.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "QEMU_CPU": CPU}

#: For the wheel (`arm64_wheels`).
COMPILER = "aarch64-linux-gnu-gcc"
#: Programs, any one of each, by the Debian package that has them: all that the benchmark needs, to be told at once.
_TOOLS = {
    "gcc-aarch64-linux-gnu": (COMPILER,),
    "mmdebstrap": ("mmdebstrap",),
    "proot": ("proot",),
    "qemu-user-static": ("qemu-aarch64-static", "qemu-aarch64"),
}
_STATE = "arm64.json"


class Root:
    """The root, made where there is none, with a virtual environment in it whose Python is `INTERPRETER`.

    Parameters
    ----------
    cache : Path
        Folder for it and for what else this benchmark makes. The root that it holds is used again.
    mirror : str
        Where Debian's packages come from.
    again : bool
        Whether to replace a root that is there.

    Raises
    ------
    CmrError
        A program is missing, the folder holds something else, or a step fails.
    """

    def __init__(self, cache: Path, mirror: str = MIRROR, again: bool = False) -> None:
        self._tools = _find_tools()
        self._folder = cache / "root"
        self._state_path = cache / _STATE
        if cache.exists() and not self._state_path.is_file() and (not cache.is_dir() or any(cache.iterdir())):
            raise CmrError(f"{cache} holds something else; move it away, or name another folder with --cache")
        recipe = {"release": RELEASE, "packages": list(PACKAGES), "files": _FILES}
        self._state = _read(self._state_path)
        if again or self._state.get("recipe") != recipe:
            self._make(mirror, recipe)

    @property
    def emulator(self) -> str:
        """Emulator, its version and the processor that it plays."""
        command = [self._tools["qemu-user-static"], "--version"]
        first = _output(command, "ask QEMU for its version", 60.0, os.environ).splitlines()[0]
        return f"{first.partition(' (')[0]}, {CPU}"

    def install(self, wheels: Sequence[Path], project: Path) -> None:
        """Install these wheels and nothing else, by the root's own pip.

        Parameters
        ----------
        wheels : sequence of Path
            All in one folder. What was installed before is kept if it had the same names.
        project : Path
            That one of them which is put in anew each time.

        Raises
        ------
        CmrError
            One does not fit the root, or something that they need is not among them.
        """
        binds, names = {"/wheels": project.parent}, sorted(wheel.name for wheel in wheels if wheel != project)
        pip = [INTERPRETER, "-m", "pip", "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        if self._state.get("wheels") != names:
            self._save(wheels=None)
            self.output(["/usr/bin/python3", "-m", "venv", "--clear", str(Path(INTERPRETER).parents[1])])
            self.output([*install, *(f"/wheels/{name}" for name in names)], binds)
            self._save(wheels=names)
        self.output([*install, "--force-reinstall", f"/wheels/{project.name}"], binds)
        self.output([*pip, "check"])

    def output(
        self, command: Sequence[str], binds: Mapping[str, Path] | None = None, cwd: str = "/", limit: float = 3600.0
    ) -> str:
        """Return the standard output of a command in the root; arguments as for `run`.

        Raises
        ------
        CmrError
            The command fails, with its last words, or does not end in time.
        """
        return _output(self._command(command, binds or {}, cwd), "run under emulation", limit, _ENVIRONMENT)

    def run(self, command: Sequence[str], binds: Mapping[str, Path], cwd: str, limit: float, **streams: Any) -> int:
        """Run a command in the root and return its exit status.

        Parameters
        ----------
        command : sequence of str
            Program and arguments, as paths of the root.
        binds : mapping
            Paths of the root, and what is seen there.
        cwd : str
            Folder of the root.
        limit : float
            Seconds after which it is taken to hang.
        **streams
            Of `subprocess.Popen`.

        Raises
        ------
        CmrError
            The command does not end in time.
        """
        return _run(self._command(command, binds, cwd), limit, _ENVIRONMENT, **streams)[0]

    def _command(self, command: Sequence[str], binds: Mapping[str, Path], cwd: str) -> list[str]:
        cpuinfo = self._folder / "cpuinfo"
        shown = {"/proc": Path("/proc"), "/proc/cpuinfo": cpuinfo, "/dev": Path("/dev"), **binds}
        seen = [word for inside, outside in shown.items() for word in ("-b", f"{outside}:{inside}")]
        proot = [self._tools["proot"], "-q", self._tools["qemu-user-static"], "-r", str(self._folder)]
        return [*proot, *seen, "-w", cwd, *command]

    def _make(self, mirror: str, recipe: Mapping[str, Any]) -> None:
        if "mmdebstrap" not in self._tools:
            raise _missing(["mmdebstrap"])
        shutil.rmtree(self._folder, ignore_errors=True)
        self._state_path.parent.mkdir(parents=True, exist_ok=True)
        self._save(recipe=None, wheels=None)
        options = ["--mode=chrootless", "--variant=extract", "--architectures=arm64", f"--include={','.join(PACKAGES)}"]
        command = [self._tools["mmdebstrap"], *options, RELEASE, str(self._folder), mirror]
        try:
            _output(command, "make the root", 3600.0, os.environ)
        except CmrError as error:
            raise CmrError(f"{error}; it needs {mirror}, or name another mirror with --debian-mirror") from error
        for name, text in _FILES.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "ascii")
        self._save(recipe=recipe)

    def _save(self, **changes: Any) -> None:
        self._state |= changes
        self._state_path.write_text(json.dumps(self._state), "utf-8")


def _find_tools() -> dict[str, str]:
    """Paths by Debian package; mmdebstrap may be absent, since a root that is there needs none."""
    found = {}
    for package, names in _TOOLS.items():
        path = next((path for name in names if (path := shutil.which(name))), None)
        if path:
            found[package] = path
    missing = [package for package in _TOOLS if package not in found]
    if missing and missing != ["mmdebstrap"]:
        raise _missing(missing)
    return found


def _missing(packages: Sequence[str]) -> CmrError:
    names = ", ".join(" or ".join(_TOOLS[package]) for package in packages)
    return CmrError(f"{names} not found; install with `apt-get install {' '.join(packages)}`")


def _read(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _output(command: Sequence[str], what: str, limit: float, environment: Mapping[str, str]) -> str:
    status, output, errors = _run(command, limit, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if status:
        told = " ".join((errors or output).split())[-600:]
        raise CmrError(f"cannot {what}: `{' '.join(command[-3:])}` ended with {status}: {told}")
    return output


def _run(command: Sequence[str], limit: float, environment: Mapping[str, str], **streams: Any) -> tuple[int, str, str]:
    """Exit status, output and errors; what still runs when the time is up, or at an interrupt, is ended."""
    # A session of its own, so that what PRoot holds ends with it.
    process = subprocess.Popen(list(command), env=dict(environment), text=True, start_new_session=True, **streams)
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise CmrError(f"`{' '.join(command[-3:])}` did not end in {limit:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, output or "", errors or ""
