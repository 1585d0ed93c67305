"""CMUA-Watermark as an ART attack: one perturbation for all faces and manipulators."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.attacks.bounded import BoundedParams
from art_idguard.attacks.trained import TrainedAttack
from art_idguard.baselines.cmua import cmua
from art_idguard.data.faces import Faces
from art_idguard.errors import IDGuardError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.images import project, resize, to_uint8
from art_idguard.metrics import l2_image
from art_idguard.types import Images


class CMUAAttack(TrainedAttack):
    """CMUA-Watermark (Huang et al., AAAI 2022), see `baselines.cmua`; `noise` is None before `fit`.

    Deviates: the search maximises the worst manipulator's mean squared distance on the training faces; the paper's mean
    of success rates, a step function of the distances, gives no direction while none succeeds.

    Examples:
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", input_shape=(3, 32, 32))
        >>> x = np.full((1, 3, 32, 32), 0.5, np.float32)  # faces to learn from, and one to protect
        >>> attack = CMUAAttack(stargan, eps=0.025, max_iter=2, verbose=False).fit(x)
        >>> attack.noise.shape
        (1, 3, 32, 32)
        >>> bool(np.allclose(attack.generate(x), x + attack.noise))
        True

    Args:
        estimators: the manipulators, in the order in which they are attacked.
        eps_step: length of a step, in units of `clip_values`.
        max_iter: steps for each batch and manipulator; with `each_edit` for each of its edits.
        each_edit: the official budget, five times the work, see `baselines.cmua`.
        trials: of the search for the manipulators' step-size factors by TPE (needs optuna); 0: all are 1.
        common: eps, seed, batch_size, verbose and summary_writer, see `attacks.BoundedParams`.

    Raises:
        EstimatorError: an estimator is no `PyTorchManipulator`.
        IDGuardError: optuna is asked for and not installed.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [  # noqa: RUF012 - ART's convention
        *TrainedAttack.attack_params,
        *("eps_step", "max_iter", "each_edit", "trials"),
    ]

    def __init__(
        self,
        estimators: PyTorchManipulator | Sequence[PyTorchManipulator],
        *,
        eps_step: float = 0.005,
        max_iter: int = 10,
        each_edit: bool = False,
        trials: int = 0,
        **common: Unpack[BoundedParams],
    ) -> None:
        self.eps_step, self.max_iter, self.each_edit, self.trials = eps_step, max_iter, each_edit, trials
        self.factors: tuple[float, ...] | None = None
        self._perturbation: Images | None = None
        super().__init__(estimators, **common)

    @property
    def noise(self) -> np.ndarray | None:
        """The perturbation (1, 3, H, W) in units of `clip_values`; None before `fit`."""
        if self._perturbation is None:
            return None
        return (self._perturbation * self.clip_values.span / 2).cpu().numpy()

    def train(self, x: Images, attributes: Float[Tensor, "B 5"]) -> None:
        """Average the perturbation over the faces, with the factors that the search finds."""
        names = tuple(str(i) for i in range(len(x)))
        faces = Faces(names, to_uint8(x), attributes, landmarks=x.new_zeros(len(x), 5, 2))
        self.factors = self._search(faces) if self.trials else (1.0,) * len(self.estimators)
        self._perturbation = self._average(faces, self.factors, verbose=self.verbose)

    def protect(self, x: Images) -> Images:
        """Faces plus the perturbation, resized to them, on the [-1, 1] scale.

        Raises:
            IDGuardError: before `fit`.
        """
        if self._perturbation is None:
            raise IDGuardError("CMUAAttack has no perturbation yet; call fit(x) first")
        return project(x + resize(self._perturbation, (x.shape[-2], x.shape[-1])), x, self.epsilon)

    def _average(self, faces: Faces, factors: Sequence[float], *, verbose: bool = False) -> Images:
        return cmua(
            self.manipulators,
            faces,
            epsilon=self.epsilon,
            steps=self.max_iter,
            step_size=self.signed_length(self.eps_step),
            batch_size=self.batch_size,
            factors=factors,
            each_edit=self.each_edit,
            seed=self.seed,
            verbose=verbose,
        )

    def _search(self, faces: Faces) -> tuple[float, ...]:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=self.seed))
        names = [f"{i}-{model.name}" for i, model in enumerate(self.manipulators)]

        def worst(trial: Any) -> float:
            factors = [trial.suggest_float(name, 0.0, 10.0) for name in names]
            return self._worst(faces, self._average(faces, factors))

        study.enqueue_trial(dict.fromkeys(names, 1.0))  # so that the search is never worse than none
        study.optimize(worst, n_trials=self.trials, show_progress_bar=self.verbose)
        return tuple(study.best_params[name] for name in names)

    @torch.no_grad()
    def _worst(self, faces: Faces, perturbation: Images) -> float:
        """The mean squared distance of the manipulator that is moved least, over faces and edits."""
        distances = []
        for model in self.manipulators:
            moved_by = []
            for batch in faces.batches(self.batch_size):
                moved = project(batch.images + perturbation, batch.images, self.epsilon)
                for edit in model.edits(batch.attributes):
                    moved_by.append(l2_image(model(moved, edit).output, model(batch.images, edit).output))
            distances.append(float(torch.cat(moved_by).mean()))
        return min(distances)

    def _default_batch(self) -> int:
        return 64

    def _check_params(self) -> None:
        super()._check_params()
        self._check_positive("eps_step")
        self._check_whole(1, "max_iter")
        self._check_whole(0, "trials")
        self._check_flag("each_edit")
        if self.trials:
            _optuna()


def _optuna() -> Any:
    try:
        import optuna  # an extra
    except ImportError as error:
        raise IDGuardError("the search of CMUA's factors needs optuna: pip install 'art-idguard[cmua]'") from error
    return optuna
