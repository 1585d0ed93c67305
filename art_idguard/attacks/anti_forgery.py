"""Anti-Forgery (Wang et al. 2022) as an ART attack."""

from typing import Any

from art_idguard.attacks.bounded import BoundedAttack, all_edits
from art_idguard.baselines.anti_forgery import anti_forgery
from art_idguard.baselines.base import face_generator, forgery_distance
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.types import Images


class AntiForgeryAttack(BoundedAttack):
    """Adam on the a and b channels of the Lab picture, another of the estimator's edits at each step.

    See `baselines.anti_forgery` for what differs from the published code.

    Args:
        estimator: the manipulator under attack.
        eps: L-inf bound of RGB in units of `clip_values`, where `project` is set.
        project: keep the bound `eps`, as all attacks here do. The published attack does not: `colour_bound` alone lets
            RGB move by up to a third of the range.
        colour_bound: of the changes of a and b, in units of 110, whatever the `clip_values`.
        lr: of Adam, in the same units.
        max_iter: steps.
        seed: of the start, together with the images.
        batch_size: images at a time.
        verbose: show a progress bar.
        summary_writer: as in ART.

    Raises:
        EstimatorError: `estimator` is no `PyTorchManipulator`.
        ValueError: a parameter has a wrong type or value.
    """

    attack_params = [  # noqa: RUF012 - ART's convention
        *BoundedAttack.attack_params,
        *("project", "colour_bound", "lr", "max_iter"),
    ]

    def __init__(
        self,
        estimator: PyTorchManipulator,
        *,
        eps: float = 0.025,
        project: bool = True,
        colour_bound: float = 0.05,
        lr: float = 2e-3,
        max_iter: int = 100,
        seed: int = 0,
        batch_size: int = 32,
        verbose: bool = True,
        summary_writer: Any = False,
    ) -> None:
        self.project, self.colour_bound, self.lr, self.max_iter = project, colour_bound, lr, max_iter
        super().__init__(
            estimator, eps=eps, seed=seed, batch_size=batch_size, verbose=verbose, summary_writer=summary_writer
        )

    def protect(self, x: Images) -> Images:
        """Protected faces on the [-1, 1] scale.

        Raises:
            IDGuardError: a preprocessing defence has no gradient.
        """
        return anti_forgery(
            forgery_distance(all_edits(self.estimator), x),
            x,
            epsilon=self.epsilon if self.project else None,
            colour_bound=self.colour_bound,
            steps=self.max_iter,
            lr=self.lr,
            generator=face_generator(x, self.seed),
        )

    def _check_params(self) -> None:
        super()._check_params()
        self._check_positive("colour_bound", "lr")
        self._check_whole(1, "max_iter")
        if not isinstance(self.project, bool):
            raise ValueError(f"`project` has to be a bool, found {self.project!r}")
