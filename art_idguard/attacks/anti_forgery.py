"""Anti-Forgery (Wang et al. 2022) as an ART attack."""

from typing import Unpack

from art_idguard.attacks.bounded import BoundedAttack, BoundedParams, all_edits
from art_idguard.baselines.anti_forgery import anti_forgery
from art_idguard.baselines.base import face_generator, forgery_distance
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.types import Images


class AntiForgeryAttack(BoundedAttack):
    """Adam on the a and b channels of the Lab picture, another edit at each step (Wang et al. 2022).

    See `baselines.anti_forgery` for what differs from the published code.

    Examples:
        >>> import numpy as np
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", input_shape=(3, 32, 32))
        >>> attack = AntiForgeryAttack(stargan, eps=0.025, max_iter=2, verbose=False)
        >>> x = np.full((1, 3, 32, 32), 0.5, np.float32)
        >>> bool(abs(attack.generate(x) - x).max() <= 0.02501)
        True

    Args:
        estimator: the manipulator under attack.
        project: keep the bound `eps` of RGB, as all attacks here do. The published attack does not: `colour_bound`
            alone lets RGB move by up to a third of the range.
        colour_bound: of the changes of a and b, in units of 110, whatever the `clip_values`.
        lr: of Adam, in the same units.
        max_iter: steps.
        common: eps, seed, batch_size, verbose and summary_writer, see `attacks.BoundedParams`.

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
        project: bool = True,
        colour_bound: float = 0.05,
        lr: float = 2e-3,
        max_iter: int = 100,
        **common: Unpack[BoundedParams],
    ) -> None:
        self.project, self.colour_bound, self.lr, self.max_iter = project, colour_bound, lr, max_iter
        super().__init__(estimator, **common)

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
        self._check_flag("project")
