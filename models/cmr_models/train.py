# SPDX-License-Identifier: Apache-2.0
"""Train the default network.

    python -m cmr_models.synth.bake data/synth --count 24000 --size 160
    python -m cmr_models.train runs/first --synth data/synth --photos real.npz --trunk trunk_lite.npz --minutes 60

Reads from top to bottom. A run stopped at any time, or by ``--minutes``, goes on where it was when started again with
the same arguments. Everything it does follows from the seed and the number of the step.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from .batches import Batches, Mix, Renderings
from .hand import load_hand
from .losses import (
    edge_loss,
    gaussian_maps,
    heatmap_loss,
    level_loss,
    normal_loss,
    reprojection_loss,
    silhouette_loss,
    similarity_loss,
)
from .network import HandNet, HandNetConfig, save_checkpoint, to_input
from .network.handnet import HandNetOutput
from .network.prior import SHALLOW_BLOCK
from .validate import Validation

VALIDATION = 512  # renderings kept from training


@dataclass(frozen=True)
class Recipe:
    """Optimisation; lengths in metres are weighted so that 10 mm count as one."""

    seed: int = 0
    steps: int = 6000
    rate: float = 1e-3  # of new layers
    pretrained: float = 0.3  # of pretrained layers, times `rate`
    warm_up: int = 200
    decay: float = 1e-2
    clip: float = 5.0
    average: float = 0.998  # of the exponential moving average of the weights
    freeze_shallow: bool = True  # pretrained layers up to the shared shallow features stay as they are
    mesh: float = 100.0
    joints: float = 100.0
    edges: float = 30.0
    normals: float = 0.1
    heatmaps: float = 1.0
    empty: float = 0.25  # of the heat maps of pictures without a hand
    silhouette: float = 2.0
    presence: float = 0.3
    handedness: float = 1.0
    photo_joints: float = 60.0
    photo_view: float = 5.0


def parameter_groups(net: HandNet, recipe: Recipe) -> list[dict]:
    """Split into pretrained and new parameters; frozen ones are left out."""
    pretrained = {id(p) for trunk in (net.prior.trunk, net.mesh.trunk) for p in trunk.parameters()}
    frozen: set[int] = set()
    if recipe.freeze_shallow:
        trunk = net.prior.trunk
        shallow = [*trunk.stem.parameters(), *(p for b in trunk.blocks[: SHALLOW_BLOCK + 1] for p in b.parameters())]
        frozen = {id(p) for p in shallow}
        for p in shallow:
            p.requires_grad_(False)
    old = [p for p in net.parameters() if id(p) in pretrained and id(p) not in frozen]
    new = [p for p in net.parameters() if id(p) not in pretrained]
    return [{"params": old, "scale": recipe.pretrained}, {"params": new, "scale": 1.0}]


def rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to one hundredth."""
    if step < recipe.warm_up:
        return recipe.rate * (step + 1) / recipe.warm_up
    part = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return recipe.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, part))))


def compute_losses(
    out: HandNetOutput, batch: dict[str, Tensor], net: HandNet, recipe: Recipe, mirrored: float = Mix.mirrored
) -> dict[str, Tensor]:
    """Every weighted term by name; ``mirrored`` is the share of hands shown as left ones."""
    size, prior, mesh = batch["image"].shape[1], out.prior, out.mesh
    present = batch["present"].float()
    # Photos come with labels of a certain weight; a mirrored one lost its weight and counts half.
    photo = batch["present"] & ~batch["outlined"]
    trust = torch.where(photo, batch["weight"].clamp_min(0.5), torch.where(batch["present"], 1.0, recipe.empty))
    target = gaussian_maps(batch["keypoints"], size, prior.heatmaps.shape[-1]) * present[:, None, None, None]
    coverage, outlined = batch["silhouette"].float() / 255, batch["outlined"].float()
    terms = {
        "heat1": recipe.heatmaps * heatmap_loss(prior.heatmaps.float(), target, trust),
        "heat2": recipe.heatmaps * heatmap_loss(mesh.heatmaps.float(), target, trust),
        "sil1": recipe.silhouette * silhouette_loss(prior.silhouette.float(), coverage, outlined),
        "sil2": recipe.silhouette * silhouette_loss(mesh.silhouette.float(), coverage, outlined),
    }
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    terms["presence"] = recipe.presence * binary(prior.presence[:, 0].float(), present)
    side = binary(prior.right[:, 0].float(), batch["right"].float(), reduction="none")
    # Mirrored hands are few; both sides count alike.
    both = present * torch.where(batch["right"], 1.0, (1 - mirrored) / max(mirrored, 1e-3))
    terms["hand"] = recipe.handedness * (side * both).sum() / both.sum().clamp_min(1)

    meshed, truth = batch["meshed"], batch["vertices"]
    if len(meshed):
        truth = truth - net.mesh.root @ truth
        predicted = [v[meshed].float() for v in mesh.levels]
        targets = [truth]
        for k in range(len(net.hand.level_index)):
            targets.append(targets[-1][:, getattr(net.mesh, f"level_index_{k}")])
        faces = net.faces
        terms["mesh"] = recipe.mesh * level_loss(predicted, targets)
        regressed = net.joint_regressor @ predicted[0], net.joint_regressor @ truth
        terms["joints"] = recipe.joints * (regressed[0] - regressed[1]).abs().mean()
        terms["edges"] = recipe.edges * edge_loss(predicted[0], truth, faces)
        terms["normals"] = recipe.normals * normal_loss(predicted[0], truth, faces)
    if bool((batch["weight"] > 0).any()):
        joints = net.joint_regressor @ mesh.levels[0].float()
        terms["photo3d"] = recipe.photo_joints * similarity_loss(joints, batch["world"], batch["weight"])
        terms["photo2d"] = recipe.photo_view * reprojection_loss(joints, batch["keypoints"], batch["weight"])
    return terms


@torch.no_grad()
def update_average(average: HandNet, net: HandNet, decay: float) -> None:
    """Exponential moving average of the weights."""
    for a, b in zip(average.parameters(), net.parameters(), strict=True):
        a.lerp_(b, 1 - decay)


def main() -> None:
    """Run the training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--synth", type=Path, required=True, help="folder of cmr_models.synth.bake")
    parser.add_argument("--photos", type=Path, help="file of cmr_models.real_crops")
    parser.add_argument("--trunk", type=Path, help="file of cmr_models.network.convert_mediapipe")
    parser.add_argument(
        "--about", type=Path, help="JSON with licence, licence_text and sources {name: text}, for the bundle to carry"
    )
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time; start again to go on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    terms_of_use = json.loads(args.about.read_text()) if args.about else {}
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    recipe, mix, config, hand = Recipe(seed=args.seed, steps=args.steps), Mix(), HandNetConfig(), load_hand()
    net = HandNet(config, hand)
    if args.trunk:
        net.start_from(dict(np.load(args.trunk)))
    net.to(args.device, memory_format=torch.channels_last)
    groups = parameter_groups(net, recipe)
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.decay)
    average = copy.deepcopy(net)

    args.out.mkdir(parents=True, exist_ok=True)
    state_path, first = args.out / "state.pt", 0
    if state_path.exists():
        state = torch.load(state_path, map_location=args.device, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        print(f"goes on at step {first}", flush=True)

    batches = Batches(Renderings(args.synth, first=VALIDATION), args.photos, config.size, mix, args.seed, recipe.steps)
    loader = DataLoader(Subset(batches, range(first, recipe.steps)), batch_size=None, num_workers=1, prefetch_factor=4)
    validation = Validation(Renderings(args.synth, last=VALIDATION), args.photos, config)

    def save(step: int) -> None:
        state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save({**state, "step": step}, state_path.with_suffix(".tmp"))
        state_path.with_suffix(".tmp").replace(state_path)
        about = {"step": step, "recipe": asdict(recipe), "mix": asdict(mix), "renderings": len(batches.renderings)}
        about |= terms_of_use
        save_checkpoint(args.out / "model.pt", average, about=json.dumps(about))

    began, shown, sums = time.monotonic(), time.monotonic(), {}
    for step, batch in enumerate(loader, first):
        batch = {k: v.to(args.device) for k, v in batch.items()}
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, recipe) * group["scale"]
        terms = compute_losses(net(to_input(batch["image"], config)), batch, net, recipe, mix.mirrored)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], recipe.clip)
        optimiser.step()
        update_average(average, net, min(recipe.average, (step + 1) / (step + 10)))

        for name, term in terms.items():
            sums.setdefault(name, []).append(float(term.detach()))
        if (step + 1) % 50 == 0:
            now = time.monotonic()
            means = " ".join(f"{name} {np.mean(values):.3f}" for name, values in sums.items())
            rate, left = 50 / (now - shown), recipe.steps - step - 1
            speed = f"{rate * len(batch['image']):.0f}/s, {left / rate / 60:.0f} min left"
            print(f"{step + 1}/{recipe.steps} {speed} | {means}", flush=True)
            shown, sums = now, {}
        late = time.monotonic() - began > args.minutes * 60
        if (step + 1) % 1000 == 0 or step + 1 == recipe.steps or late:
            save(step + 1)
            figures = validation.run(average.eval())
            print(json.dumps({"step": step + 1, **figures}), flush=True)
            with (args.out / "figures.jsonl").open("a") as log:
                log.write(json.dumps({"step": step + 1, **figures}) + "\n")
            shown = time.monotonic()
        if late:
            break


if __name__ == "__main__":
    main()
