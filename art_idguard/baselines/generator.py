"""Perturbation generators that earlier work trains: Initiative Defense (PG) and IAP's disruption part.

Both are a `Protector` whose prior is zero and stays so, and protect in one forward pass. Faces are on the [-1, 1]
scale.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import trange

from art_idguard.baselines.base import Protection
from art_idguard.baselines.idguard import id_guard
from art_idguard.baselines.setting import BaselineSetting
from art_idguard.errors import IDGuardError
from art_idguard.hub.repository import CONFIG
from art_idguard.perturbation import Protector
from art_idguard.types import Attributes, Images

GeneratorObjective = Callable[[Images, Images, Attributes, int], Float[Tensor, ""]]
"""What the generator maximises, of protected faces, faces, their labels and the step."""


def train_generator(
    protector: Protector,
    x: Images,
    attributes: Attributes,
    objective: GeneratorObjective,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    verbose: bool,
    title: str = "training the generator",
) -> Protector:
    """Adam on the generator alone; `title` stands before the progress bar.

    Raises:
        IDGuardError: a loss that is not finite.
    """
    optimizer = torch.optim.Adam(protector.generator.parameters(), lr=lr, betas=(0.5, 0.999))
    protector.train().requires_grad_()
    chance = torch.Generator().manual_seed(seed)
    for step in trange(steps, desc=title, disable=not verbose):
        index = torch.randint(len(x), (min(batch_size, len(x)),), generator=chance)
        faces, labels = x[index], attributes[index]
        loss = -objective(protector(faces).specific, faces, labels, step)
        if not loss.isfinite():
            raise IDGuardError(f"step {step + 1}: the loss is not finite; lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return protector.eval().requires_grad_(False)


GENERATOR: dict[str, Any] = {"channels": 32, "norm": "instance"}
TRAINING: dict[str, Any] = {"batch_size": 4, "lr": 1e-3}
"""Of PG and IAP; a step takes a CPU core 3 seconds for PG and, with four manipulators, 19 for IAP, at 128 px.

PG is published with 30,000 steps at lr 1e-4. After 35 on StarGAN, mean squared error of the whole picture on 4 other
faces: 0.0026 at 1e-3, 0.0017 at 2e-4, 0.0001 for noise.
"""


def trained(
    setting: BaselineSetting, name: str, targets: Iterable[str], aim: Callable[[], GeneratorObjective]
) -> Protection:
    """The trained generator in its folder, whose config.json is written last; otherwise a new one."""
    faces = setting.learnt_from()
    key = setting.key(targets, name=name, steps=setting.steps, **TRAINING, **GENERATOR)
    folder = setting.folder / "baselines" / f"{name}-{key[:16]}"
    if not (folder / CONFIG).is_file():
        with torch.random.fork_rng():
            torch.manual_seed(setting.seed)
            new = Protector(generator_config=GENERATOR, epsilon=setting.epsilon, size=faces.size)
        batch = faces.batch(slice(None))
        train_generator(
            new.to(faces.device),
            batch.images,
            batch.attributes,
            aim(),
            steps=setting.steps,
            seed=setting.seed,
            verbose=setting.verbose,
            title=f"training {name}",
            **TRAINING,
        ).save_pretrained(folder)
    return id_guard(Protector.from_pretrained(folder).to(faces.device).requires_grad_(False))


def budget(setting: BaselineSetting) -> dict[str, Any]:
    """Of a generator's training."""
    faces = setting.learnt_from()
    return {"steps": setting.steps, **TRAINING, **GENERATOR, "faces": len(faces), "digest": faces.digest()}
