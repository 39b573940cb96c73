# SPDX-License-Identifier: Apache-2.0
"""Learning a few hands by heart: the command tells networks that can from those that cannot."""

import cv2
import numpy as np
import pytest
import torch
from small_net import CONFIG
from torch import nn

from cmr_models import overfit
from cmr_models.by_name import make_objective
from cmr_models.network.objective import HandNetObjective, HandNetRecipe
from cmr_models.overfit import LIMIT_MM, Point, few_hands, plot, settle, vertex_error


@pytest.fixture(scope="module")
def hands():
    return few_hands(3, 64)


def small(seed: int = 0) -> HandNetObjective:
    torch.manual_seed(seed)
    return HandNetObjective(CONFIG, HandNetRecipe())


def test_hands_are_a_labelled_batch_on_grey(hands):
    assert hands["image"].shape == (3, 64, 64, 3)
    assert hands["meshed"].tolist() == [0, 1, 2]
    assert hands["present"].all()
    assert hands["outlined"].all()
    assert hands["right"].all()
    assert (hands["image"][:, 0, 0] == overfit.GREY).all(1).any()
    # Something other than grey lies where the hand is.
    inside = hands["silhouette"] > 200
    assert ((hands["image"] != overfit.GREY).any(3) & inside).sum() > 0.95 * inside.sum()


def test_error_is_the_mean_distance_of_vertices(hands):
    objective = small()
    with torch.no_grad():
        found = objective.vertices(objective.net.eval(), hands["image"]).numpy()
    wanted = np.sqrt(((found - hands["vertices"].numpy()) ** 2).sum(2)).mean() * 1000
    assert vertex_error(objective, hands) == pytest.approx(float(wanted), rel=1e-5)


def test_the_smallest_network_learns_two_hands():
    torch.manual_seed(0)
    curve = overfit.overfit(make_objective("handnet", 64), few_hands(2, 64), 200, 3e-3)
    assert curve[-1].millimetres < LIMIT_MM
    assert curve[0].millimetres > 3 * curve[-1].millimetres
    assert curve[0].step == overfit.EVERY


def test_it_stops_when_there_is_nothing_left_to_learn(hands, monkeypatch):
    monkeypatch.setattr(overfit, "ENOUGH_MM", 1000.0)
    assert [point.step for point in overfit.overfit(small(), hands, 200, 1e-3)] == [overfit.EVERY]


@pytest.mark.slow
def test_a_network_of_the_paper_learns_three_hands(hands):
    torch.manual_seed(0)
    assert overfit.overfit(make_objective("cmr_p_resnet18", 64), hands, 150, 3e-4)[-1].millimetres < LIMIT_MM


def test_batch_norms_take_the_statistics_of_the_batch(hands):
    torch.manual_seed(0)
    objective = make_objective("mobrecon_ds", 64)
    seen = []
    first = next(m for m in objective.net.modules() if isinstance(m, nn.BatchNorm2d))
    handle = first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    settle(objective, hands)
    handle.remove()
    torch.testing.assert_close(first.running_mean, seen[0].mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.running_var, seen[0].var((0, 2, 3)), atol=1e-5, rtol=1e-4)
    assert first.momentum == 0.1


# The command


def command(monkeypatch, *arguments: str, best: float) -> int:
    """Run the command with a training that ends at ``best`` millimetres."""
    curve = [Point(25, 2.0, 40.0), Point(50, 1.0, best)]

    def pretend(objective, batch, steps, rate, report):
        for point in curve:
            report(point)
        return curve

    monkeypatch.setattr(overfit, "overfit", pretend)
    return overfit.main([*arguments, "--samples", "2"])


@pytest.mark.parametrize(("best", "code"), [(2.9, 0), (3.0, 1), (float("nan"), 1)])
def test_the_exit_code_says_whether_it_got_there(monkeypatch, capsys, best, code):
    assert command(monkeypatch, "handnet", best=best) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["25", "50"]
    assert ("missed 3 mm" if code else "reached 3 mm") in lines[-1]


def test_the_plot_shows_the_curves(tmp_path):
    curves = {"a": [Point(25, 1.0, 30.0), Point(50, 1.0, 3.0)], "b": [Point(25, 1.0, 50.0)]}
    plot(tmp_path / "curves.png", curves)
    with_two = cv2.imread(str(tmp_path / "curves.png"))
    plot(tmp_path / "one.png", {"a": curves["a"]})
    with_one = cv2.imread(str(tmp_path / "one.png"))
    assert (with_two != 255).any(2).sum() > (with_one != 255).any(2).sum() > 1000
    with pytest.raises(ValueError, match=r"\.png or \.jpg"):
        plot(tmp_path / "no" / "curves.png", curves)


@pytest.mark.parametrize("name", ["absent/curves.png", "curves.xyz", "curves"])
def test_a_plot_that_cannot_be_written_is_refused_before_the_training(monkeypatch, capsys, tmp_path, name):
    monkeypatch.setattr(overfit, "few_hands", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(SystemExit) as error:
        overfit.main(["handnet", "--plot", str(tmp_path / name)])
    assert error.value.code == 2
    assert ".png or .jpg" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("resnet",), ("handnet", "--samples", "1"), ("mobrecon", "--size", "50")])
def test_wrong_arguments_are_refused_in_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as error:
        overfit.main(list(arguments))
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err.splitlines()[-1]
