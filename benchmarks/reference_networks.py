# SPDX-License-Identifier: Apache-2.0
"""Time of bundles of the paper's networks against the reference implementation of the same networks, in turns.

``python -m benchmarks.reference_networks CLONE --assets DIR`` needs a clone of the reference implementation
(SeanChenxy/HandMesh), whose code it imports and runs, and the folder of its templates. No checkpoint is needed: time
does not depend on the weights, so the reference's own random ones are exported.

Per network: our bundle in ONNX Runtime; the reference in PyTorch; and, where PyTorch's tracing exporter takes it, the
reference exported as it stands, in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from cmr_export.bundle import export
from cmr_models.paper.config import PaperConfig, paper_config
from cmr_models.paper.hierarchy import MeshHierarchy
from cmr_runtime import Bundle
from cmr_runtime.bench.machine import describe_machine

from .networks import Contestant, measure, summarise

__all__ = ["REFERENCES", "import_reference", "main", "reference_network", "run", "table"]

OURS, TORCH, EXPORTED = "our bundle", "reference in PyTorch", "reference as exported"
PRECISIONS = {OURS: "fp32", f"{OURS}, int8": "int8"}


def scatter_add(src: Tensor, index: Tensor, dim: int, dim_size: int) -> Tensor:
    """Sum rows of ``src`` by index, as torch_scatter's function of that name does."""
    shape = list(src.shape)
    shape[dim] = dim_size
    spread = index.view(*(-1 if k == dim else 1 for k in range(src.dim()))).expand_as(src)
    return torch.zeros(shape, dtype=src.dtype).scatter_add_(dim, spread, src)


def import_reference(clone: Path) -> None:
    """Make the clone's modules importable without the compiled packages that its networks do not need to run."""
    if not (clone / "cmr/models/cmr_pg.py").is_file():
        raise ValueError(f"{clone}: no clone of the reference implementation (cmr/models/cmr_pg.py is not there)")
    scatter = types.ModuleType("torch_scatter")
    scatter.scatter_add = scatter_add  # type: ignore[attr-defined]
    sys.modules.setdefault("torch_scatter", scatter)
    sys.path.insert(0, str(clone))


def _sparse(hierarchy: MeshHierarchy) -> list[Tensor]:
    """Up-sampling matrices as the reference has them: sparse, three entries a row."""
    matrices = []
    for level, (index, weight) in enumerate(zip(hierarchy.up_index, hierarchy.up_weight, strict=True)):
        rows = np.repeat(np.arange(len(index)), 3)
        size = (len(index), len(hierarchy.vertices[level + 1]))
        place = torch.from_numpy(np.stack([rows, index.ravel()]).astype(np.int64))
        matrices.append(torch.sparse_coo_tensor(place, torch.from_numpy(weight.ravel().astype(np.float32)), size))
    return matrices


def reference_network(config: PaperConfig, hierarchy: MeshHierarchy) -> nn.Module:
    """Build a network of the reference's own code with random weights; its clone is importable."""
    spirals = [
        torch.from_numpy(hierarchy.spirals(level, length, dilation))
        for level, (length, dilation) in enumerate(zip(config.spiral_lengths, config.dilations, strict=True))
    ]
    up = _sparse(hierarchy)
    args = types.SimpleNamespace(
        in_channels=3, out_channels=list(config.channels), backbone=config.backbone, dataset="FreiHAND",
        dsconv=config.separable, att=config.attention,
    )  # fmt: skip
    if config.architecture == "mobrecon":
        from cmr.models.mobrecon_densestack import MobRecon  # type: ignore[import-not-found]

        return MobRecon(args, spirals, [(*m._indices(), m._values()) for m in up]).eval()
    from cmr.models import cmr_pg  # type: ignore[import-not-found]

    builders = {k: getattr(cmr_pg, k) for k in ("resnet18", "resnet50")}
    for key, builder in builders.items():  # it would load ImageNet weights
        setattr(cmr_pg, key, lambda pretrained=False, builder=builder: builder(pretrained=False))
    return cmr_pg.CMR_PG(args, spirals, up).eval()


#: Configurations, and which of the reference's times ours is promised to be at most half of.
REFERENCES = {
    "mobrecon_spconv": (paper_config("mobrecon"), EXPORTED),
    "mobrecon_dsconv": (paper_config("mobrecon", separable=True), EXPORTED),
    "cmr_pg_resnet18": (paper_config("cmr_pg_resnet18"), TORCH),
}


def _timed(stage: str, call: Callable[[], object]) -> Contestant:
    def turn(invocations: int) -> dict[str, list[float]]:
        times = []
        for _ in range(invocations):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        return {stage: times}

    return turn


def _session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _our_turn(stage: str, bundle: Bundle, image: np.ndarray, threads: int) -> Contestant:
    prior, mesh = _session(bundle.prior, threads), _session(bundle.mesh, threads)
    given, wanted = [o.name for o in prior.get_outputs()], [i.name for i in mesh.get_inputs()]

    def call() -> None:
        cues = dict(zip(given, prior.run(given, {"image": image}), strict=True))
        mesh.run(None, {name: cues[name] for name in wanted})

    return _timed(stage, call)


def _as_it_stands(net: nn.Module, image: Tensor) -> bytes | None:
    """Return the reference exported by the tracing exporter, or None where that refuses it or gets it wrong."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (image,), buffer, opset_version=17, dynamo=False)
        graph = buffer.getvalue()
        found = _session(graph, 1).run(None, {_session(graph, 1).get_inputs()[0].name: image.numpy()})
    except Exception as error:  # exporter and runtime raise many kinds
        print(f"not exported as it stands: {' '.join(str(error).split())[:160]}", file=sys.stderr)
        return None
    return graph if all(np.isfinite(output).all() for output in found) else None


def run(name: str, assets: Path, threads: int, rounds: int, invocations: int) -> dict[str, Any]:
    """Time one network of `REFERENCES`; the reference's clone is importable."""
    config, baseline = REFERENCES[name]
    hierarchy = MeshHierarchy.from_assets(assets, config.joints)
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    net = reference_network(config, hierarchy)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / f"{name}.pt"
        torch.save({"model_state_dict": net.state_dict()}, checkpoint)
        bundles = {
            stage: export(checkpoint, Path(folder) / f"{name}.cmr", assets=assets, precision=precision).bundle
            for stage, precision in PRECISIONS.items()
        }
    image = torch.from_numpy(
        np.random.default_rng(0).uniform(-1, 1, (1, 3, config.size, config.size)).astype(np.float32)
    )
    contestants = [_our_turn(stage, bundle, image.numpy(), threads) for stage, bundle in bundles.items()]
    peers = [TORCH]
    with torch.no_grad():
        contestants.append(_timed(TORCH, lambda: net(image)))
        if graph := _as_it_stands(net, image):
            session = _session(graph, threads)
            feed = {session.get_inputs()[0].name: image.numpy()}
            contestants.append(_timed(EXPORTED, lambda: session.run(None, feed)))
            peers.append(EXPORTED)
        times = measure(contestants, rounds, invocations)
    ratios = {stage: summarise(times, stage, peers)["ratios"] for stage in PRECISIONS}
    return {
        "network": name,
        "threads": threads,
        "baseline": baseline,
        "stages": summarise(times, OURS, peers)["stages"],
        "ratios": ratios,
    }


def table(report: dict[str, Any]) -> str:
    """Render the report of `run` as text."""
    lines = [f"{report['network']}, {report['threads']} thread(s)"]
    for stage, figures in report["stages"].items():
        shares = (f"{ratio['median']:.2f} of the {peer}" for peer, ratio in report["ratios"].get(stage, {}).items())
        text = ", ".join(shares)
        lines.append(f"  {stage:24s}{figures['median_ms']:9.2f} ms   P95 {figures['p95_ms']:9.2f} ms   {text}")
    for stage, ratios in report["ratios"].items():
        if ratio := ratios.get(report["baseline"]):
            met = "yes" if ratio["median"] <= 0.5 else "NO "
            lines.append(f"  {met}  {stage} within half of the {report['baseline']}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reference_networks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("clone", type=Path, help="clone of the reference implementation; its code is run")
    parser.add_argument("--assets", type=Path, required=True, help="folder with transform.pkl and j_reg.npy")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--invocations", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        import_reference(args.clone)
        reports = [run(name, args.assets, args.threads, args.rounds, args.invocations) for name in REFERENCES]
    except (ValueError, OSError) as error:
        print(f"reference_networks: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"machine": describe_machine(), "networks": reports}, indent=2))
    else:
        machine = describe_machine()
        print(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; load {machine['load']}")
        print("\n".join(table(report) for report in reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())
