"""Adversarial training of a manipulator (Eq. 15) as an ART trainer."""

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.defences.trainer.trainer import Trainer

from art_idguard import manipulators
from art_idguard.attacks.idguard import IDGuardAttack
from art_idguard.attacks.universal import IDGuardUniversalAttack
from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import check_images, to_tensor
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import to_uint8
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation.refined import RefinedProtector
from art_idguard.training.manipulator.config import WARMUP, ManipulatorConfig
from art_idguard.training.manipulator.hardening import ProtectorAttacker
from art_idguard.training.manipulator.objectives import OBJECTIVES
from art_idguard.training.manipulator.setup import InnerAttack, PreloadedGAN
from art_idguard.training.manipulator.train import train_manipulator
from art_idguard.types import Edit, Images


class ManipulatorAdversarialTrainer(Trainer):
    """Hardens a manipulator (Eq. 15) with ID-Guard, or any other ART attack, inside its own training.

    Examples:
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", input_shape=(3, 64, 64))
        >>> trainer = ManipulatorAdversarialTrainer(stargan)
        >>> trainer.fit(x, y, nb_epochs=1, distill=True)  # doctest: +SKIP

    Args:
        classifier: the manipulator to harden (ART's word for what is trained); `fit` replaces its model.
        attack: an `IDGuardAttack`, whose protector is fine-tuned along (by default the one that ships); an
            `IDGuardUniversalAttack`, whose P-Pert stays as it is; or another evasion attack on this very estimator,
            which then attacks the estimator's own edit, such as ART's PGD.
        verbose: show a progress bar.

    Raises:
        IDGuardError: the estimator's model is no `Manipulator`, the attack is of another estimator, or its protector
            is refined.
        TypeError: not an estimator, or not an evasion attack.
    """

    def __init__(
        self, classifier: PyTorchManipulator, attack: EvasionAttack | None = None, *, verbose: bool = True
    ) -> None:
        if not isinstance(classifier, PyTorchManipulator):
            raise TypeError(f"`classifier` has to be a PyTorchManipulator, found {type(classifier).__name__}")
        if not isinstance(classifier.model, Manipulator):
            raise IDGuardError(f"training needs a Manipulator, found {type(classifier.model).__name__}; subclass it")
        if attack is not None and not isinstance(attack, EvasionAttack):
            raise TypeError(f"`attack` has to be an evasion attack, found {type(attack).__name__}")
        if attack is not None and not isinstance(attack, IDGuardAttack) and attack.estimator is not classifier:
            raise IDGuardError("the attack is of another estimator; make it of the one that is trained")
        if isinstance(attack, IDGuardAttack) and isinstance(attack.protector, RefinedProtector):
            raise IDGuardError("a refined protector is not trained; give the one that it begins with, .start")
        super().__init__(classifier)
        self.attack = IDGuardAttack(classifier, verbose=False) if attack is None else attack
        self.verbose = verbose

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        batch_size: int = 16,
        nb_epochs: int = 20,
        output: str | Path | None = None,
        protector_lr: float = 1e-4,
        **settings: Any,
    ) -> None:
        """Train; `classifier` holds the hardened manipulator afterwards, or after an error the one that it had.

        Ctrl-C ends the training early, with what is learnt so far.

        Args:
            x: square faces (N, 3, S, S) within the estimator's `clip_values`, S a multiple of 64.
            y: 0/1 labels (N, A), in the order of the objective's attributes (five; HiSD: eight).
            batch_size: faces in a step.
            nb_epochs: how often the discriminator, or with `distill` the generator, sees each face.
            output: folder that keeps checkpoint, log and samples; by default nothing is kept.
            protector_lr: Adam's learning rate of an `IDGuardAttack`'s protector.
            settings: any other field of `training.manipulator.ManipulatorConfig`, such as lr; warmup: steps of
                the discriminator alone at first, since it starts anew (by default `harden`'s, but a quarter of all at
                most); or distill: learn the original's own answers to
                clean faces in place of its losses, without a discriminator.

        Raises:
            IDGuardError: unusable faces, labels or settings, or a loss that is not finite.
        """
        estimator: PyTorchManipulator = self._classifier
        x, name = check_images(x, estimator.clip_values), estimator.model.name
        if name not in OBJECTIVES:
            raise IDGuardError(f"there is no training of {name}; expected a model of: {', '.join(OBJECTIVES)}")
        attributes = OBJECTIVES[name].attributes
        if np.shape(y) != (len(x), len(attributes)) or x.shape[2] != x.shape[3]:
            raise IDGuardError(
                f"expected square faces with 0/1 labels ({', '.join(attributes)}) of shape (N, {len(attributes)}), "
                f"found {x.shape} and {np.shape(y)}"
            )
        images = to_uint8(estimator.signed(to_tensor(x)))
        with TemporaryDirectory() as temporary:
            values: dict[str, Any] = {
                "manipulator": name,
                "faces": f"{len(x)} arrays",
                "output": str(output or temporary),
                "size": x.shape[-1],
                "batch_size": batch_size,
                "steps": nb_epochs * max(1, len(x) // batch_size),
            }
            values |= settings
            if not (values.get("distill") or values.get("start_discriminator")):
                values.setdefault("warmup", min(WARMUP, values["steps"] // 4))
            config = ManipulatorConfig.from_recipe(None, **values)
            model = estimator.model
            estimator._model = deepcopy(model)  # through the estimator, ART's attacks see what is being trained
            parts = PreloadedGAN(images, torch.tensor(np.asarray(y), dtype=torch.float32), estimator.model)
            try:
                attacker = self._attacker(protector_lr)
                folder = train_manipulator(config, attack=attacker, parts=parts, verbose=self.verbose)
                model = manipulators.load(folder).to(estimator.device)
            finally:
                estimator._model = model
                if isinstance(self.attack, IDGuardAttack):
                    self.attack.protector.eval().requires_grad_(False)

    def _attacker(self, protector_lr: float) -> InnerAttack:
        if isinstance(self.attack, IDGuardUniversalAttack):
            return lambda x, edit, generator: self.attack.protect(x).clone()  # out of inference mode
        if isinstance(self.attack, IDGuardAttack):
            return ProtectorAttacker(self.attack.weakened, lr=protector_lr)
        attack, estimator = self.attack, self._classifier

        def by_art(x: Images, edit: Edit, generator: Manipulator) -> Images:
            clean = estimator.unsigned(x.float()).cpu().numpy()
            attacked = torch.tensor(attack.generate(clean), device=x.device)
            return estimator.signed(attacked).to(x)

        return by_art

    def __repr__(self) -> str:
        return f"ManipulatorAdversarialTrainer(classifier={self._classifier.model.name}, attack={self.attack!r})"
