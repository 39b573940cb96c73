# SPDX-License-Identifier: Apache-2.0
"""A tiny bundle whose "hand" is a bright disc: red for a right one, blue for a left one.

The prior puts 20 joints on the disc's edge and the root (joint 9) at its centre, both found from the mass of the bright
pixels, so everything that the tracker does with them has a known answer.
Other networks are made by leaving outputs out.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cmr_runtime import Topology

S, H, M, C, G, V = 32, 16, 16, 2, 4, 60

#: Offsets of the 21 joints from the disc's centre, in radii.
#: The wrist lies below the middle knuckle: the hand points up, and boxes drawn around it are not turned.
ANGLES = 0.5 * np.pi + np.linspace(0.0, 2.0 * np.pi, 21, endpoint=False)
OFFSETS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
OFFSETS[9] = 0.0

#: What the prior stage of the default network gives; other networks may also give keypoints.
PRIOR_OUTPUTS = ("heatmaps", "silhouette", "presence", "right", "features")
MESH_INPUTS = ("features", "heatmaps", "silhouette")
MESH_OUTPUTS = ("vertices", "refined_heatmaps", "refined_silhouette")


def make_topology(joints: int = 21, regressor: bool = True) -> Topology:
    """A sphere-like tetrahedral cloud: 60 vertices on a sphere of 5 cm, triangulated by its convex hull."""
    from scipy.spatial import ConvexHull

    k = np.arange(V) + 0.5
    polar, turn = np.arccos(1 - 2 * k / V), np.pi * (1 + 5**0.5) * k
    points = 0.05 * np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    faces = ConvexHull(points).simplices
    corners = points[faces]
    outward = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * corners.mean(axis=1)).sum(
        axis=1
    )
    faces = np.where((outward > 0)[:, None], faces, faces[:, ::-1])
    targets = np.concatenate([0.045 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), np.zeros((21, 1))], axis=1)
    targets[9] = 0.0
    homogeneous = np.concatenate([points, np.ones((V, 1))], axis=1)
    rows = np.concatenate([targets, np.ones((21, 1))], axis=1)[:joints] @ np.linalg.pinv(homogeneous)
    parents = np.array([0, *(0 if (j - 1) % 4 == 0 else j - 1 for j in range(1, joints))])
    return Topology(
        points.astype(np.float32),
        faces.astype(np.int32),
        rows.astype(np.float32) if regressor else None,
        parents.astype(np.int32),
    )


def _graph(nodes, inputs, outputs, constants):
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    result = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "g", value, result, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()


def shapes(joints: int = 21) -> dict[str, tuple[int, ...]]:
    """Shapes of all that a stage may give, by name."""
    return {
        "heatmaps": (1, joints, H, H),
        "silhouette": (1, 1, H, H),
        "presence": (1, 1),
        "right": (1, 1),
        "keypoints": (1, joints, 2),
        "features": (1, C, G, G),
        "coarse_heatmaps": (1, joints, H, H),
        "vertices": (1, V, 3),
        "refined_heatmaps": (1, joints, H, H),
        "refined_silhouette": (1, 1, M, M),
        "refined_presence": (1, 1),
    }


def make_prior(outputs: tuple[str, ...] = PRIOR_OUTPUTS, cell_centre: float = 0.5, joints: int = 21) -> bytes:
    node = helper.make_node
    peaks = (np.arange(H, dtype=np.float32) + np.float32(cell_centre)) / H
    cells = (np.arange(H, dtype=np.float32) + 0.5) / H
    ones = np.ones((1, 1, H, H), np.float32)
    constants = {
        "split": np.array([1, 1, 1], np.int64),
        "eps": np.float32(1e-6),
        "grid_x": ones * cells[None, None, None, :],
        "grid_y": ones * cells[None, None, :, None],
        "peak_x": ones * peaks[None, None, None, :],
        "peak_y": ones * peaks[None, None, :, None],
        "dx": OFFSETS[:joints, 0].astype(np.float32).reshape(1, joints, 1, 1),
        "dy": OFFSETS[:joints, 1].astype(np.float32).reshape(1, joints, 1, 1),
        "points": np.array([1, joints, 2], np.int64),
        "sharp": np.float32(-0.5 * (H / 1.2) ** 2),
        "axes": np.array([1, 2, 3], np.int64),
        "half": np.float32(0.5),
        "per_pi": np.float32(1 / np.pi),
        "steep": np.float32(20.0),
        "least": np.float32(0.02),
        "lots": np.float32(400.0),
        "flat": np.array([1, 1], np.int64),
    }
    nodes = [
        node("Split", ["image", "split"], ["r", "g", "b"], axis=1),
        node("Max", ["r", "b"], ["bright"]),
        node("AveragePool", ["bright"], ["mass"], kernel_shape=[S // H, S // H], strides=[S // H, S // H]),
        node("ReduceSum", ["mass", "axes"], ["sum0"], keepdims=1),
        node("Add", ["sum0", "eps"], ["sum"]),
        node("Mul", ["mass", "grid_x"], ["mx"]),
        node("Mul", ["mass", "grid_y"], ["my"]),
        node("ReduceSum", ["mx", "axes"], ["sx"], keepdims=1),
        node("ReduceSum", ["my", "axes"], ["sy"], keepdims=1),
        node("Div", ["sx", "sum"], ["cx"]),
        node("Div", ["sy", "sum"], ["cy"]),
        node("ReduceMean", ["bright"], ["level"], axes=[1, 2, 3], keepdims=1),
        node("Mul", ["level", "per_pi"], ["square"]),
        node("Sqrt", ["square"], ["radius"]),
        node("Mul", ["radius", "dx"], ["rdx"]),
        node("Mul", ["radius", "dy"], ["rdy"]),
        node("Add", ["cx", "rdx"], ["jx"]),
        node("Add", ["cy", "rdy"], ["jy"]),
        node("Concat", ["jx", "jy"], ["jxy"], axis=3),
        node("Reshape", ["jxy", "points"], ["keypoints"]),
        node("Sub", ["peak_x", "jx"], ["ex"]),
        node("Sub", ["peak_y", "jy"], ["ey"]),
        node("Mul", ["ex", "ex"], ["ex2"]),
        node("Mul", ["ey", "ey"], ["ey2"]),
        node("Add", ["ex2", "ey2"], ["d2"]),
        node("Mul", ["d2", "sharp"], ["log"]),
        node("Exp", ["log"], ["peak"]),
        node("Sub", ["mass", "half"], ["over"]),
        node("Mul", ["over", "steep"], ["logit"]),
        node("Sigmoid", ["logit"], ["silhouette"]),
        node("Sub", ["level", "least"], ["enough"]),
        node("Mul", ["enough", "lots"], ["plogit"]),
        node("Sigmoid", ["plogit"], ["p4"]),
        node("Reshape", ["p4", "flat"], ["presence"]),
        node("Mul", ["peak", "p4"], ["heatmaps"]),
        node("Identity", ["heatmaps"], ["coarse_heatmaps"]),
        # A right hand is redder on its left half: mirroring makes it a left one.
        node("Sub", ["r", "b"], ["rb"]),
        node("Mul", ["rb", "slope"], ["moment"]),
        node("ReduceMean", ["moment"], ["m4"], axes=[1, 2, 3], keepdims=1),
        node("Mul", ["m4", "lots"], ["rlogit0"]),
        node("Mul", ["rlogit0", "lots"], ["rlogit"]),
        node("Sigmoid", ["rlogit"], ["r4"]),
        node("Reshape", ["r4", "flat"], ["right"]),
        node("AveragePool", ["image"], ["pooled"], kernel_shape=[S // G, S // G], strides=[S // G, S // G]),
        node("Slice", ["pooled", "zero", "two", "one"], ["features"]),
    ]
    constants |= {"zero": np.array([0]), "two": np.array([C]), "one": np.array([1])}
    constants["slope"] = -np.linspace(-1, 1, S, dtype=np.float32).reshape(1, 1, 1, S)
    return _graph(nodes, {"image": (1, 3, S, S)}, {name: shapes(joints)[name] for name in outputs}, constants)


def make_mesh(
    topology: Topology, inputs: tuple[str, ...] = MESH_INPUTS, outputs: tuple[str, ...] = MESH_OUTPUTS
) -> bytes:
    """The template, whatever the inputs are (all of them are used); refined maps are the prior's.

    A refined presence is one where the features are not all nought.
    """
    node = helper.make_node
    sizes = shapes(topology.joints)
    nodes = [node("ReduceMean", [name], [f"mean_{name}"], keepdims=0) for name in inputs]
    nodes += [
        node("Sum", [f"mean_{name}" for name in inputs], ["mean"]),
        node("Mul", ["mean", "nought"], ["nothing"]),
        node("Add", ["template", "nothing"], ["vertices"]),
        *(node("Identity", [name.removeprefix("refined_")], [name]) for name in outputs if name in MESH_OUTPUTS[1:]),
    ]
    if "refined_presence" in outputs:
        nodes += [
            node("ReduceMax", ["features"], ["most"], keepdims=0),
            node("Mul", ["most", "lots"], ["sure"]),
            node("Min", ["sure", "one"], ["there"]),
            node("Reshape", ["there", "flat"], ["refined_presence"]),
        ]
    return _graph(
        nodes,
        {name: sizes[name] for name in inputs},
        {name: sizes[name] for name in outputs},
        {
            "template": topology.template[None],
            "nought": np.float32(0.0),
            "lots": np.float32(400.0),
            "one": np.float32(1.0),
            "flat": np.array([1, 1], np.int64),
        },
    )


def make_content(
    prior: tuple[str, ...] = PRIOR_OUTPUTS,
    inputs: tuple[str, ...] = MESH_INPUTS,
    outputs: tuple[str, ...] = MESH_OUTPUTS,
    topology: Topology | None = None,
    cell_centre: float = 0.5,
) -> dict:
    """Keyword arguments of `write_bundle` for a network whose stages have these inputs and outputs."""
    topology = topology or make_topology()
    return {
        "prior": make_prior(prior, cell_centre, topology.joints),
        "mesh": make_mesh(topology, inputs, outputs),
        "topology": topology,
        "licence_text": "For tests only.\n",
        "name": "disc",
        "licence": "Apache-2.0",
        "provenance": {"weights": "none", "hand": "a ball"},
        "input_size": S,
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "cell_centre": cell_centre,
    }


def draw_disc(width: int, height: int, cx: float, cy: float, radius: float, side: str = "right") -> np.ndarray:
    """Image with a disc, its left half red for a right hand and blue for a left one, the other half the other way."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    inside = np.clip(radius - np.hypot(x - cx, y - cy) + 0.5, 0.0, 1.0)
    left_half = x < cx
    red = left_half if side == "right" else ~left_half
    image = np.zeros((height, width, 3))
    image[..., 0] = inside * np.where(red, 1.0, 0.8)
    image[..., 2] = inside * np.where(red, 0.8, 1.0)
    return np.rint(255 * image).astype(np.uint8)
