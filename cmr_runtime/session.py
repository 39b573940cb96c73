# SPDX-License-Identifier: Apache-2.0
"""One way to open a graph, by its plan or in ONNX Runtime, with settings chosen by measurement; checks of shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BundleError, InputError
from .manifest import graph_part
from .plan.session import PlanSession, kernels
from .plan.steps import read_plan

# Where all graphs have plans, ONNX Runtime is not even loaded: a tenth of a second and forty megabytes.
if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "CPU",
    "MAX_THREADS",
    "Form",
    "Session",
    "Shapes",
    "check_providers",
    "check_shapes",
    "only_cpu",
    "open_session",
    "open_stage",
    "session_options",
]

#: Execution providers when none are named.
CPU = ("CPUExecutionProvider",)
#: Most threads inside an operator.
MAX_THREADS = 256
#: The option for threads of execution providers that have some of their own and do not look at the session's.
_THREADS = {"OpenVINOExecutionProvider": "num_of_threads", "XnnpackExecutionProvider": "intra_op_num_threads"}
#: Shape of a tensor: a number is that size, None any fixed size; None for all of it is any fixed shape.
Form = tuple[int | None, ...] | None
Shapes = dict[str, tuple[int, ...]]


class Node(Protocol):
    """An input or output of a graph, as ONNX Runtime describes one."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def shape(self) -> Sequence[Any]:
        """Its sizes."""

    @property
    def type(self) -> str:
        """What it holds, such as ``tensor(float)``."""


class Session(Protocol):
    """A graph that can be run: ONNX Runtime's, or a plan's."""

    def run(self, names: Sequence[str], feeds: Mapping[str, npt.NDArray[np.float32]]) -> Sequence[Any]:
        """Return the named outputs for inputs by name."""

    def get_inputs(self) -> Sequence[Node]:
        """Return the inputs."""

    def get_outputs(self) -> Sequence[Node]:
        """Return the outputs."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the settings of every session, for a number of threads inside an operator."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Workers spin while a stage runs and rest when it ends: one that span on would hold the core that the next stage
    # needs. Both stages with two threads on two cores: 3.2 ms so; 4.6 ms without spinning; 3.8 ms, and 8 ms at the 95th
    # percentile, with spinning as it comes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return options


def open_stage(bundle: Bundle, kind: str, threads: int, providers: Sequence[str] = CPU) -> tuple[Session, str]:
    """Open a bundle's graph, of a kind that it has; returns what messages call it, too.

    Where the bundle has a plan of it, the compiled core runs that, if no other provider is asked for; where the bundle
    says so with products of fewer bits, but for the detector. All else is as in `open_session`.
    """
    graph: bytes = getattr(bundle, kind)
    part = f"{graph_part(kind, graph)} of {bundle.source}"
    bits = bundle.bits if kind != "detector" and kernels(bundle.bits) else 32
    if bundle.plan is not None and only_cpu(providers) and kernels():
        check_threads(threads)
        if (plan := read_plan(bundle.plan, bundle.source).get(kind)) is not None:
            if plan.sha256 != hashlib.sha256(graph).hexdigest():
                raise BundleError(f"the plan of {part} was made of another graph; export it again")
            return PlanSession(plan, graph, part, threads, bits=bits), part
    return open_session(graph, part, threads, providers), part


def open_session(graph: bytes, part: str, threads: int, providers: Sequence[str] = CPU) -> onnxruntime.InferenceSession:
    """Open a graph.

    Parameters
    ----------
    graph : bytes
        In ONNX or in ONNX Runtime's own format.
    part : str
        What messages call it.
    threads : int
        Threads inside an operator, on the CPU, whichever provider runs it.
    providers : sequence of str
        Execution providers of ONNX Runtime, the preferred one first. What none of them takes, the CPU does.

    Raises
    ------
    BundleError
        The graph does not load.
    InputError
        `threads` is no whole number from 1 to `MAX_THREADS`, or this build of ONNX Runtime lacks a provider.
    """
    check_threads(threads)
    import onnxruntime as ort

    tried = check_providers(providers)
    own = [{_THREADS[name]: str(threads)} if name in _THREADS else {} for name in tried]
    try:
        return ort.InferenceSession(graph, session_options(threads), providers=tried, provider_options=own)
    except Exception as error:  # ONNX Runtime raises classes of its own that share no base but Exception.
        raise BundleError(f"part {part} does not load in ONNX Runtime {ort.__version__}: {error}") from error


def only_cpu(providers: Sequence[str]) -> bool:
    """Whether these are the providers when none are named."""
    return isinstance(providers, list | tuple) and [*providers] == [*CPU]


def check_threads(threads: int) -> None:
    """Raise `InputError` if that is no number of threads."""
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads is {threads!r}; give a whole number from 1 to {MAX_THREADS}")


def check_providers(providers: Sequence[str]) -> list[str]:
    """Return the execution providers in the order in which they are tried: the CPU last, if it is not named.

    Raises
    ------
    InputError
        No list of names, or this build of ONNX Runtime lacks one; the message names those it has.
    """
    if only_cpu(providers):  # which all builds have
        return [*CPU]
    import onnxruntime as ort

    available = ort.get_available_providers()
    listed = isinstance(providers, Sequence) and not isinstance(providers, str)
    if not listed or not all(name in available for name in providers):
        raise InputError(
            f"providers is {providers!r}; give a list of some of {available}, which this build of ONNX Runtime has"
        )
    return list(dict.fromkeys([*providers, *CPU]))


def check_shapes(nodes: Sequence[Node], known: Mapping[str, Form], part: str, required: Sequence[str] = ()) -> Shapes:
    """Return shapes by name, in the order of `known`, each checked against it.

    Raises
    ------
    BundleError
        One is lacking, unknown, or of another shape or type than it must be.
    """
    found = {node.name: node for node in nodes}
    for name in required:
        if name not in found:
            raise BundleError(f"part {part} lacks {name}; it has {sorted(found)}")
    if extra := sorted(set(found) - set(known)):
        raise BundleError(f"part {part} has {extra[0]}, which this version does not know; it knows {sorted(known)}")
    shapes = {}
    for name, form in known.items():
        if name not in found:
            continue
        node = found[name]
        sizes = tuple(node.shape)
        wanted = (None,) * len(sizes) if form is None else form
        fits = len(sizes) == len(wanted) and all(
            isinstance(a, int) and a > 0 and b in (None, a) for a, b in zip(sizes, wanted, strict=True)
        )
        if not fits or node.type != "tensor(float)":
            text = "of fixed shape" if form is None else tuple("any" if b is None else b for b in form)
            raise BundleError(f"{name} of {part} is {node.type} {sizes}; it must be tensor(float) {text}")
        shapes[name] = sizes
    return shapes
