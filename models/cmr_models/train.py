# SPDX-License-Identifier: Apache-2.0
r"""Train the default network, or one of the paper's by name.

    python -m cmr_models.synth.bake data/synth --count 24000 --size 160
    python -m cmr_models.train runs/first --synth data/synth --photos real.npz --trunk trunk_lite.npz --minutes 60
    python -m cmr_models.train runs/second --synth data/synth data/more --photos real.npz --start runs/first/model.pt
    python -m cmr_models.train runs/paper --synth data/synth --photos real.npz --network cmr_pg_resnet18
    python -m cmr_models.train runs/short --synth data/synth --photos real.npz --teacher runs/first/model.pt \
        --blocks 4 5 7 8 10 11

Reads from top to bottom. A run stopped at any time, or by ``--minutes``, goes on where it was when started again with
the same arguments, and is not mixed with others. Everything it does follows from the seed, the number of the step and
the number of processes.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from .batches import Batches, Renderings
from .by_name import DEFAULT, make_objective, network_names
from .checkpoints import read_about, read_arrays, read_content, save_content
from .network.handnet import HandNetConfig, load_checkpoint
from .network.objective import HandNetObjective, HandNetRecipe
from .network.stem import StemObjective
from .network.taught import TaughtObjective, start_from
from .objective import Objective, Recipe
from .processes import Processes, together
from .validate import Validation

VALIDATION = 512  # renderings kept from training


def rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to one hundredth."""
    if step < recipe.warm_up:
        return recipe.rate * (step + 1) / recipe.warm_up
    part = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return recipe.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, part))))


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights, and of the running statistics of batch norms."""
    ours, theirs = average.state_dict(), net.state_dict()
    for name, value in ours.items():
        if value.is_floating_point():
            value.lerp_(theirs[name], 1 - decay)
        else:
            value.copy_(theirs[name])


@contextmanager
def usable(parser: argparse.ArgumentParser, what: str) -> Iterator[None]:
    """End with one line where what an argument names cannot be read or used."""
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        parser.error(f"{what}: cannot be used ({' '.join(str(error).split()) or type(error).__name__})")


def arguments_of(args: argparse.Namespace, objective: Objective, processes: int) -> dict[str, Any]:
    """All that a run must not change on its way, by option or setting."""
    config = asdict(objective.input)
    own = {"network": args.network, "teacher": args.teacher and str(args.teacher), "blocks": config.pop("mesh_blocks")}
    own |= {"stem_alone": args.stem_alone or None, "lite": args.lite or None}
    own |= {"sizes": args.sizes, "times": args.times, "processes": processes}
    mix = {f"mix_{name}": value for name, value in asdict(objective.mix).items()}
    return own | config | asdict(objective.recipe) | mix


def data_of(batches: Batches, args: argparse.Namespace) -> dict[str, Any]:
    """Name what a run learns from, for `arguments_of`: each step of a run that goes on draws from the same."""
    counts = np.bincount(batches.renderings.index[:, 0], minlength=len(args.synth)).tolist()
    photos = None if batches.photos is None else f"{args.photos.name} ({len(batches.photos)} hands)"
    named = [f"{folder.name} ({count} hands)" for folder, count in zip(args.synth, counts, strict=True)]
    return {"synth": named, "photos": photos}


def load_state(path: Path, arguments: dict[str, Any], options: set[str]) -> dict[str, Any]:
    """Read the state of a run and compare its arguments; state files of before hold no more than the network's name.

    Raises
    ------
    ValueError
        If the file cannot be read, or other ``arguments`` made it; ``options`` are those that a caller can give.
    """
    state = read_content(path)
    if not isinstance(state, dict) or not {"net", "average", "optimiser", "step"} <= state.keys():
        raise ValueError(f"{path}: no state of a run; remove it or choose another folder")
    if (made := state.get("network", DEFAULT)) != arguments["network"]:
        raise ValueError(f"{path.parent} holds a run of {made}, not of {arguments['network']}; choose another folder")
    unsaid = {name: arguments[name] for name in ("synth", "photos")}  # by states of before
    made_with = unsaid | state.get("arguments", arguments)
    others = [
        f"{'--' if name in options else ''}{name} {made_with.get(name)}, not {arguments.get(name)}"
        for name in {**made_with, **arguments}
        if made_with.get(name) != arguments.get(name)
    ]
    if others:
        raise ValueError(f"{path.parent} holds a run with {'; '.join(others)}: give the same, or choose another folder")
    return state


def main(arguments: Sequence[str] | None = None, processes: Processes | None = None) -> None:
    """Run the training, or this process' part of it."""
    parser = argparse.ArgumentParser(prog="python -m cmr_models.train", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--synth", type=Path, nargs="+", required=True, help="folders of cmr_models.synth.bake")
    parser.add_argument(
        "--network", choices=network_names(), default=DEFAULT, metavar="NAME", help="default: %(default)s"
    )
    parser.add_argument("--size", type=int, metavar="PX", help="side of the images (default: the network's own)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="PX",
        help="sides of the images of one step after the other, for a network to serve several (default: --size)",
    )
    parser.add_argument("--photos", type=Path, help="file of cmr_models.real_crops")
    parser.add_argument(
        "--trunk",
        type=Path,
        help="file of cmr_models.network.convert_mediapipe: the default network begins with these layers",
    )
    parser.add_argument("--start", type=Path, help="checkpoint of the default network whose weights it starts from")
    parser.add_argument(
        "--mesh-levels", type=int, metavar="N", help="with --start: layers on the N coarsest mesh levels only, 2 to 4"
    )
    parser.add_argument(
        "--rank", type=int, metavar="N", help="with --start: of the whole crop's features to those of the joints"
    )
    parser.add_argument(
        "--about", type=Path, help="JSON with licence, licence_text and sources {name: text}, for the bundle to carry"
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        help="checkpoint of the default network: train a mesh stage behind its prior",
    )
    parser.add_argument(
        "--blocks",
        type=int,
        nargs="+",
        metavar="K",
        help="of that mesh stage's encoder, 4 to 13; 14 are the layers behind them",
    )
    parser.add_argument(
        "--stem-alone",
        action="store_true",
        help="with --teacher: train the lite network's first layers by the teacher's, which are MediaPipe's",
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="with --start: the default network's blocks, and recalled cues",
    )
    parser.add_argument(
        "--lite", action="store_true", help="with --start of --stem-alone: the form of the lite network"
    )
    parser.add_argument("--rate", type=float, help="learning rate (default: the network's own)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="of the whole run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="(default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time; start again to go on")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="batches N times as large")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that make batches")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the training itself")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="that share each batch and its gradients: on N cores sooner done than N threads; give --threads 1",
    )
    args = parser.parse_args(arguments)

    if args.trunk and args.network != DEFAULT:
        parser.error(f"--trunk {args.trunk}: weights of {DEFAULT}, not of {args.network}; leave it out")
    if args.teacher and (args.trunk or args.size or args.network != DEFAULT):
        parser.error(f"--teacher {args.teacher} states network and size; leave out --network, --size and --trunk")
    if args.start and (args.trunk or args.teacher or args.network != DEFAULT):
        parser.error(f"--start {args.start} gives all weights of {DEFAULT}; leave out --trunk, --teacher and --network")
    if args.blocks and (args.stem_alone or not args.teacher):
        parser.error("--blocks are of the mesh stage that --teacher teaches; give one, without --stem-alone")
    if args.stem_alone and not args.teacher:
        parser.error("--stem-alone learns from the first layers of --teacher; name one")
    if args.lite and not args.start:
        parser.error("--lite is a form of the network that --start gives; name one")
    if args.compact and not args.start:
        parser.error("--compact is of the network that --start gives; name one")
    if args.mesh_levels and not args.start:
        parser.error("--mesh-levels are of the network that --start gives; name one")
    if args.sizes and args.network != DEFAULT:
        parser.error(f"--sizes are of {DEFAULT}, not of {args.network}; leave them out")
    if args.rank and not args.start:
        parser.error("--rank is of a matrix of the network that --start gives; name one")
    for name in ("steps", "times", "workers", "processes", "mesh_levels", "rank"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: need at least 1")
    if args.processes > 1 and args.device != "cpu":
        parser.error(f"--processes {args.processes} are for --device cpu, not {args.device}")
    if args.processes > 1 and processes is None:
        return together(args.processes, main, sys.argv[1:] if arguments is None else arguments)
    processes = processes or Processes()
    terms_of_use: dict[str, Any] = {}
    if args.about:
        with usable(parser, f"--about {args.about}"):
            terms_of_use |= read_about(args.about, args.about.read_text())
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    recipe = {"seed": args.seed, "steps": args.steps} | ({} if args.rate is None else {"rate": args.rate})
    try:
        if args.stem_alone:
            objective = StemObjective(args.teacher, HandNetRecipe(**recipe))
        elif args.teacher:
            objective = TaughtObjective(args.teacher, args.blocks, HandNetRecipe(**recipe))
        elif args.start:
            start, _ = load_checkpoint(args.start)
            # Nothing in the network depends on the size of its image: weights of one serve another.
            widths = start.config.mesh_widths
            if (kept := args.mesh_levels or len(widths)) > len(widths):
                raise ValueError(f"--mesh-levels {kept}: {args.start} has layers of {len(widths)}")
            config = replace(start.config, size=args.size or start.config.size, mesh_widths=widths[-kept:])
            if args.compact:
                usual = HandNetConfig()
                for stage, blocks in ((start.prior, usual.prior_blocks), (start.mesh, usual.mesh_blocks)):
                    if lacking := sorted({*blocks} - {*stage.trunk.chosen}):
                        raise ValueError(f"--compact: {args.start} lacks blocks {lacking}, which would be untrained")
                blocks = {"prior_blocks": usual.prior_blocks, "mesh_blocks": usual.mesh_blocks}
                config = replace(config, **blocks, recall=usual.recall)
            if args.rank:
                config = replace(config, rank=args.rank)
            if args.lite:
                if start.config.stem is None:
                    raise ValueError(f"--lite: {args.start} has MediaPipe's first layers; train others by --stem-alone")
                config = config.lite()
            objective = HandNetObjective(config, HandNetRecipe(**recipe))
            start_from(start, objective.net)
        else:
            objective = make_objective(args.network, args.size, **recipe)
        for side in args.sizes or ():
            replace(objective.input, size=side)
    except ValueError as error:
        parser.error(str(error))
    net, recipe, mix, size = objective.net, objective.recipe, objective.mix.times(args.times), objective.input.size
    with usable(parser, f"--processes {processes.count}"):
        mix = mix.part(processes.count)
    if args.trunk:
        with usable(parser, f"--trunk {args.trunk}"):
            net.start_from(read_arrays(args.trunk))
    net.to(args.device, memory_format=torch.channels_last)
    groups = objective.groups()
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.decay)
    average = copy.deepcopy(net)

    for folder in args.synth:
        with usable(parser, f"--synth {folder}"):
            if not len(Renderings(folder, first=VALIDATION)):
                raise ValueError(f"need more than {VALIDATION} renderings, which are kept for validation; bake more")
    renderings = Renderings(*args.synth, first=VALIDATION)
    with usable(parser, f"--photos {args.photos}"):
        count = recipe.steps * processes.count
        batches = Batches(renderings, args.photos, args.sizes or [size], mix, args.seed, count, processes.count)
        validation = Validation(Renderings(args.synth[0], last=VALIDATION), args.photos, objective.input)

    settings = arguments_of(args, objective, processes.count) | data_of(batches, args)
    state_path, first = args.out / "state.pt", 0
    if state_path.exists():
        try:
            state = load_state(state_path, settings, set(vars(args)))
            net.load_state_dict(state["net"])
            average.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
        except (ValueError, RuntimeError) as error:  # the latter: weights of another shape
            parser.error(str(error))
        first = state["step"]
        processes.print(f"goes on at step {first}")
    args.out.mkdir(parents=True, exist_ok=True)

    steps = Subset(batches, processes.of(range(first, recipe.steps)))
    loader = DataLoader(steps, batch_size=None, num_workers=args.workers, prefetch_factor=4)

    def save(step: int) -> None:
        state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
        save_content(state_path, {**state, "network": args.network, "arguments": settings, "step": step})
        about = {"step": step, "recipe": asdict(recipe), "mix": asdict(mix), "renderings": len(batches.renderings)}
        about["sizes"] = sorted({*batches.sizes})
        about |= terms_of_use
        objective.save(args.out / "model.pt", average, json.dumps(about))

    made = iter(loader)
    processes.join()
    began, shown, sums = time.monotonic(), time.monotonic(), {}
    for step, batch in enumerate(made, first):
        batch = {k: v.to(args.device) for k, v in batch.items()}
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, recipe) * group["scale"]
        terms = objective.losses(net, batch)
        values = torch.stack(list(terms.values()))
        optimiser.zero_grad(set_to_none=True)
        values.sum().backward()
        processes.share_gradients(net)
        torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], recipe.clip)
        optimiser.step()
        update_average(average, net, min(recipe.average, (step + 1) / (step + 10)))

        for name, value in zip(terms, values.tolist(), strict=True):
            sums.setdefault(name, []).append(value)
        if (step + 1) % 50 == 0:
            now = time.monotonic()
            means = " ".join(f"{name} {np.mean(values):.3f}" for name, values in sums.items())
            rate, left = 50 / (now - shown), recipe.steps - step - 1
            speed = f"{rate * len(batch['image']) * processes.count:.0f}/s, {left / rate / 60:.0f} min left"
            processes.print(f"{step + 1}/{recipe.steps} {speed} | {means}")
            shown, sums = now, {}
        late = processes.any(time.monotonic() - began > args.minutes * 60)
        if processes.first and ((step + 1) % 1000 == 0 or step + 1 == recipe.steps or late):
            save(step + 1)
            figures = objective.figures(average.eval(), validation)
            print(json.dumps({"step": step + 1, **figures}), flush=True)
            with (args.out / "figures.jsonl").open("a") as log:
                log.write(json.dumps({"step": step + 1, **figures}) + "\n")
            shown = time.monotonic()
        if late:
            break


if __name__ == "__main__":
    main()
