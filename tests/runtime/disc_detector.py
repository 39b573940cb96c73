# SPDX-License-Identifier: Apache-2.0
"""A detector for the discs of `disc_bundle`: one box around all that is bright, its keypoints the disc's joints.

Where two discs are in its view it sees one between them, as an overtaxed detector would.
"""

from __future__ import annotations

import numpy as np
import onnx
from disc_bundle import OFFSETS
from onnx import TensorProto, helper, numpy_helper

SIZE = 64
#: Joints that the detector's keypoints are.
JOINTS = (0, 5, 9, 13, 17, 1, 2)


def make_detector(size: int = SIZE, values: int = 18, scores: int = 1) -> bytes:
    """ONNX graph; other numbers of values and scores make it one that does not fit."""
    node = helper.make_node
    cells = (np.arange(size, dtype=np.float32) + 0.5) / size
    offsets = np.concatenate([[0.0, 0.0], [2.0, 2.0], OFFSETS[list(JOINTS)].ravel(), np.zeros(values)])[:values]
    at = np.tile([1.0, 0.0], values)[:values], np.tile([0.0, 1.0], values)[:values]
    for mask in at:
        mask[2:4] = 0.0  # width and height do not move with the disc
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "x": cells.reshape(1, 1, 1, size),
        "y": cells.reshape(1, 1, size, 1),
        "eps": np.float32(1e-6),
        "per_pi": np.float32(1 / np.pi),
        "least": np.float32(0.002),
        "lots": np.float32(4000.0),
        "offsets": offsets.reshape(1, 1, values).astype(np.float32),
        "at_x": at[0].reshape(1, 1, values).astype(np.float32),
        "at_y": at[1].reshape(1, 1, values).astype(np.float32),
        "row": np.array([1, 1, 1], np.int64),
        "many": np.array([1, scores], np.int64),
    }
    nodes = [
        node("ReduceMax", ["image"], ["bright"], axes=[1], keepdims=1),
        node("ReduceSum", ["bright", "axes"], ["sum0"], keepdims=1),
        node("Add", ["sum0", "eps"], ["sum"]),
        node("ReduceMean", ["bright"], ["level"], axes=[1, 2, 3], keepdims=1),
        node("Mul", ["level", "per_pi"], ["square"]),
        node("Sqrt", ["square"], ["radius4"]),
        node("Reshape", ["radius4", "row"], ["radius"]),
        node("Mul", ["radius", "offsets"], ["box"]),
    ]
    for axis in "xy":
        nodes += [
            node("Mul", ["bright", axis], [f"m{axis}"]),
            node("ReduceSum", [f"m{axis}", "axes"], [f"s{axis}"], keepdims=1),
            node("Div", [f"s{axis}", "sum"], [f"c{axis}4"]),
            node("Reshape", [f"c{axis}4", "row"], [f"c{axis}"]),
            node("Mul", [f"c{axis}", f"at_{axis}"], [f"moved_{axis}"]),
        ]
    nodes += [
        node("Sum", ["box", "moved_x", "moved_y"], ["boxes"]),
        node("Sub", ["level", "least"], ["over"]),
        node("Mul", ["over", "lots"], ["logit"]),
        node("Sigmoid", ["logit"], ["score"]),
        node("Expand", ["score", "four"], ["score4"]),
        node("Reshape", ["score4", "many"], ["scores"]),
    ]
    constants["four"] = np.array([1, 1, 1, scores], np.int64)
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, size, size))],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, (1, 1, values)),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, scores)),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()
