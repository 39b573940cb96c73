# SPDX-License-Identifier: Apache-2.0
"""Sessions of ONNX Runtime: one way to open a graph, with settings chosen by measurement, and to check its shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime as ort

from .errors import BundleError, InputError

__all__ = ["CPU", "MAX_THREADS", "Form", "Shapes", "check_providers", "check_shapes", "open_session", "session_options"]

#: Execution providers when none are named.
CPU = ("CPUExecutionProvider",)
#: Most threads inside an operator.
MAX_THREADS = 256
#: The option for threads of execution providers that have some of their own and do not look at the session's.
_THREADS = {"OpenVINOExecutionProvider": "num_of_threads", "XnnpackExecutionProvider": "intra_op_num_threads"}
#: Shape of a tensor: a number is that size, None any fixed size; None for all of it is any fixed shape.
Form = tuple[int | None, ...] | None
Shapes = dict[str, tuple[int, ...]]


def session_options(threads: int) -> ort.SessionOptions:
    """Return the settings of every session, for a number of threads inside an operator."""
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


def open_session(graph: bytes, part: str, threads: int, providers: Sequence[str] = CPU) -> ort.InferenceSession:
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
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads is {threads!r}; give a whole number from 1 to {MAX_THREADS}")
    tried = check_providers(providers)
    own = [{_THREADS[name]: str(threads)} if name in _THREADS else {} for name in tried]
    try:
        return ort.InferenceSession(graph, session_options(threads), providers=tried, provider_options=own)
    except Exception as error:  # ONNX Runtime raises classes of its own that share no base but Exception.
        raise BundleError(f"part {part} does not load in ONNX Runtime {ort.__version__}: {error}") from error


def check_providers(providers: Sequence[str]) -> list[str]:
    """Return the execution providers in the order in which they are tried: the CPU last, if it is not named.

    Raises
    ------
    InputError
        No list of names, or this build of ONNX Runtime lacks one; the message names those it has.
    """
    available = ort.get_available_providers()
    listed = isinstance(providers, Sequence) and not isinstance(providers, str)
    if not listed or not all(name in available for name in providers):
        raise InputError(
            f"providers is {providers!r}; give a list of some of {available}, which this build of ONNX Runtime has"
        )
    return list(dict.fromkeys([*providers, *CPU]))


def check_shapes(
    nodes: Sequence[ort.NodeArg], known: Mapping[str, Form], part: str, required: Sequence[str] = ()
) -> Shapes:
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
