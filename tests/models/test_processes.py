# SPDX-License-Identifier: Apache-2.0
"""Processes that train together: who takes what, how they end, and that a shared step is the mean of its parts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence

import pytest
import torch
from small_net import CONFIG, SIZE
from small_training import COUNTS, SHARED, arguments_for, make_small, shared

from cmr_models import train
from cmr_models.batches import Batches, Mix, Renderings
from cmr_models.network.objective import HandNetObjective, HandNetRecipe
from cmr_models.processes import Processes, together
from cmr_models.train import rate_at


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_batch_is_taken_once(count):
    taken = [[*Processes(count, rank).of(range(2, 7))] for rank in range(count)]
    assert sorted(number for own in taken for number in own) == [*range(2 * count, 7 * count)]
    assert {len(own) for own in taken} == {5}


def test_one_process_alone_shares_nothing(capsys):
    alone = Processes()
    alone.join()
    assert alone.first
    assert alone.any(True)
    assert not alone.any(False)
    net = torch.nn.Linear(2, 1)
    alone.share_gradients(net)
    assert net.weight.grad is None
    alone.print("said")
    Processes(2, 1).print("not said")
    assert capsys.readouterr().out == "said\n"


def share(arguments: Sequence[str], processes: Processes) -> None:
    """Share two gradients, of which the second process has but one, and write what comes of it."""
    net = torch.nn.Linear(2, 1)
    net.bias.requires_grad_(False)
    other = torch.nn.Linear(1, 1, bias=False)
    both = torch.nn.ModuleList([net, other])
    net.weight.grad = torch.tensor([[1.0, 2.0]]) * (1 + 2 * processes.rank)
    if processes.first:
        other.weight.grad = torch.tensor([[5.0]])
    processes.join()
    processes.share_gradients(both)
    told = {"net": net.weight.grad.tolist(), "other": other.weight.grad.tolist(), "bias": net.bias.grad}
    told["one"], told["none"] = processes.any(processes.rank == 1), processes.any(False)
    with open(f"{arguments[0]}/{processes.rank}.json", "w") as file:
        json.dump(told, file)


def test_gradients_become_their_mean_everywhere(tmp_path):
    together(2, share, [str(tmp_path)])
    wanted = {"net": [[2.0, 4.0]], "other": [[2.5]], "bias": None, "one": True, "none": False}
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [wanted] * 2


def refuse(arguments: Sequence[str], processes: Processes) -> None:
    """End as a command does whose arguments are wrong."""
    print("wrong", file=sys.stderr)
    raise SystemExit(2)


def fail(arguments: Sequence[str], processes: Processes) -> None:
    """Break down in the second process, while the first one waits."""
    if processes.rank:
        raise RuntimeError("out of paper")
    processes.join()


def test_what_is_wrong_with_the_arguments_is_said_once(capfd):
    with pytest.raises(SystemExit) as ended:
        together(2, refuse, [])
    assert ended.value.code == 2
    assert capfd.readouterr().err.count("wrong") == 1


def refuse_alone(arguments: Sequence[str], processes: Processes) -> None:
    """End the second process with a reason, while the first one waits."""
    if processes.rank:
        refuse(arguments, processes)
    processes.join()


def be_killed(arguments: Sequence[str], processes: Processes) -> None:
    """End the first process as the system does that needs its memory."""
    if processes.first:
        os.kill(os.getpid(), signal.SIGKILL)
    processes.join()


def test_what_another_process_finds_wrong_is_said(capfd):
    with pytest.raises(SystemExit) as ended:
        together(2, refuse_alone, [])
    assert ended.value.code == 2
    assert capfd.readouterr().err.count("wrong") == 1


def test_a_process_that_is_killed_is_named():
    with pytest.raises(SystemExit, match="process 0 was ended by SIGKILL"):
        together(2, be_killed, [])


def test_a_process_that_breaks_down_ends_the_others():
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="out of paper"):
        together(2, fail, [])


@pytest.fixture(scope="module")
def begun(data, tmp_path_factory):
    """One step of two processes."""
    out = tmp_path_factory.mktemp("begun") / "run"
    together(2, shared, arguments_for(data, out, "--processes", "2", "--minutes", "0"))
    return out


def test_a_shared_step_is_the_mean_of_its_parts(data, begun):
    """The same step by hand: two batches, their mean gradient, clipped, AdamW."""
    found = torch.load(begun / "state.pt", weights_only=True)
    assert (found["step"], found["arguments"]["processes"]) == (1, 2)

    torch.manual_seed(0)
    recipe, mix = HandNetRecipe(steps=3), Mix(**COUNTS)
    objective = HandNetObjective(CONFIG, recipe, Mix(**SHARED))
    net, groups = objective.net, objective.groups()
    batches = Batches(Renderings(data[0], first=2), data[1], [SIZE], mix, 0, 6)
    for number in (0, 1):
        sum(objective.losses(net, batches[number]).values()).div(2).backward()
    learning = [p for group in groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(learning, recipe.clip)
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.decay)
    for group in optimiser.param_groups:
        group["lr"] = rate_at(0, recipe) * group["scale"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimiser.step()
    # AdamW's first step is the rate in the gradient's direction, so that a gradient of nearly zero may go either way.
    moved = same = 0
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            wanted, ours = value - before[name], found["net"][name] - before[name]
            moved += int((wanted.abs() > 0).sum())
            same += int(((wanted - ours).abs() <= 1e-3 * wanted.abs()).logical_and(wanted.abs() > 0).sum())
    assert moved > 10_000
    assert same > 0.99 * moved


def test_a_batch_that_cannot_be_shared_is_refused(data, tmp_path, monkeypatch, capsys):
    make_small(monkeypatch, COUNTS)
    with pytest.raises(SystemExit):
        train.main(arguments_for(data, tmp_path / "run"), Processes(2))
    assert "--processes 2: cannot be used (a batch of {'rendered': 2, 'photos': 1" in capsys.readouterr().err


def test_a_shared_run_goes_on_with_as_many_processes(data, begun, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(begun, tmp_path / "run")
    together(2, shared, arguments_for(data, out, "--processes", "2"))
    assert torch.load(out / "state.pt", weights_only=True)["step"] == 3
    assert [json.loads(line)["step"] for line in (out / "figures.jsonl").read_text().splitlines()] == [1, 3]
    make_small(monkeypatch, COUNTS)
    with pytest.raises(SystemExit):
        train.main(arguments_for(data, out))
    message = capsys.readouterr().err
    assert "--processes 2, not 1; " in message
    assert ": give the same" in message
