# SPDX-License-Identifier: Apache-2.0
"""The summary against counts by hand, against the graphs of the export, and against what a network really gives."""

import pytest
import torch
from torch import nn

from cmr_export.report import bundle_costs
from cmr_models import summary
from cmr_models.by_name import make_objective, network_names
from cmr_models.hand import load_hand
from cmr_models.stages import Stage
from cmr_models.summary import measure, summarise
from cmr_runtime.bundle import Bundle


class Small(Stage):
    inputs = ("image",)
    outputs = ("maps", "code")

    def __init__(self):
        super().__init__()
        self.deep = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.each = nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False)
        self.code = nn.Linear(6, 10)
        self.idle = nn.Linear(50, 50)

    def forward(self, image):
        maps = self.each(self.deep(image))
        gathered = maps[:, :, torch.arange(8, device=maps.device)]
        return maps, self.code(gathered.mean((2, 3)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_small_stage_counted_by_hand(device):
    stage = Small().to(device)
    found = measure(stage, {"image": torch.zeros(1, 3, 16, 32, device=device)})
    # 8 x 16 cells; 3 x 3 x 3 -> 6 channels, 5 x 5 on each of 6 channels, then 6 -> 10.
    assert found.multiply_adds == 8 * 16 * (27 * 6 + 25 * 6) + 6 * 10
    assert found.parameters == (27 * 6 + 6) + 25 * 6 + (6 * 10 + 10)  # `idle` takes no part
    assert {name: tuple(out.shape) for name, out in found.outputs.items()} == {"maps": (1, 6, 8, 16), "code": (1, 10)}


def test_both_stages_may_own_the_same_layers():
    shared = Small()

    class Tail(Stage):
        inputs, outputs = ("code",), ("sum",)

        def __init__(self):
            super().__init__()
            self.whole = shared

        def forward(self, code):
            return (self.whole.idle(code.repeat(1, 5)),)

    found = measure(Tail(), {"code": torch.zeros(1, 10)})
    assert found.parameters == 50 * 50 + 50
    assert found.multiply_adds == 50 * 50


def test_the_default_network_costs_what_its_exported_graphs_cost():
    size, stages = summarise("handnet")
    exported = bundle_costs(Bundle.default())
    assert size == Bundle.default().input_size
    for name, found in stages.items():
        # Exports fold sums of heat maps into the mesh stage's layers behind them.
        assert found.multiply_adds == pytest.approx(exported[name].multiply_adds, rel=0.06), name
        # How the mesh follows from its finest level with layers is no parameter, but a part of the graph.
        # The shipped weights have the matrix of 672 × 672 in two factors of rank 96.
        fixed = load_hand().surface(2).size + 2 * 672 * 96 - 672 * 672 if name == "mesh" else 0
        assert found.parameters + fixed == pytest.approx(exported[name].parameters, rel=0.03), name


def test_shapes_are_those_of_the_running_network():
    _, stages = summarise("mobrecon_ds")
    objective = make_objective("mobrecon_ds")
    with torch.no_grad():
        out = objective.net.eval()(torch.zeros(1, 3, 128, 128))
    assert stages["prior"].outputs["keypoints"].shape == out.keypoints.shape
    assert stages["mesh"].outputs["vertices"].shape == out.levels[0].shape


def test_the_encoder_of_the_baseline_is_a_whole_resnet():
    _, stages = summarise("ytbhand_resnet18")
    assert stages["prior"].parameters == 11_689_512  # ResNet-18 with its 1000 outputs, as published
    assert stages["prior"].multiply_adds == pytest.approx(1.81e9, rel=0.01)  # at 224 pixels


def test_the_command_prints_two_lines_for_each_network(capsys):
    summary.main(["handnet", "mobrecon"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["handnet", "160", "prior"],
        ["handnet", "160", "mesh"],
        ["mobrecon", "128", "prior"],
        ["mobrecon", "128", "mesh"],
    ]
    assert "vertices 778x3" in lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", network_names())
def test_every_network_has_a_summary(name):
    _, stages = summarise(name)
    assert stages["mesh"].outputs["vertices"].shape == (1, 778, 3)
    counted = sum(found.parameters for found in stages.values())
    # Each parameter belongs to one stage, but for those that the reference owns and passes by.
    idle = ("backbone2.fc.", *(f"backbone.dense_stack1.{part}." for part in ("senet3", "dense4", "dense5")))
    with torch.device("meta"):
        parameters = make_objective(name).net.named_parameters()
    assert counted == sum(p.numel() for n, p in parameters if not n.startswith(idle))


def test_an_unknown_network_is_refused(capsys):
    with pytest.raises(SystemExit):
        summary.main(["resnet"])
    assert "unknown network 'resnet'" in capsys.readouterr().err
