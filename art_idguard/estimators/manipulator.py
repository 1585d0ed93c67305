"""A face manipulator as an estimator of the Adversarial Robustness Toolbox (ART), which has none of this kind.

ART's attacks on estimators with loss gradients (PGD, FGSM, BIM, momentum) run on it unmodified, and with
`attacks.ClassifierAttack` those that need a classifier do as well. Images are numpy NCHW within `clip_values` (ART's
usual [0, 1]); losses and thresholds are on the [-1, 1] scale of the paper.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from art.estimators.pytorch import PyTorchEstimator
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard import manipulators, recognizers
from art_idguard.errors import IDGuardError
from art_idguard.estimators.arrays import batches, check_images, check_output, check_settings, to_tensor, warn_of_range
from art_idguard.estimators.disruption import Disruption, disruption, output_of
from art_idguard.estimators.preprocessing import before_torch, refuse_standardisation, within_torch
from art_idguard.estimators.wrappers import unwrapped
from art_idguard.images import PixelRange
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import l2_image
from art_idguard.perturbation.gradients import differentiate, is_steep, warn_if_flat
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import ATTRIBUTES, Edit, Manipulation


class PyTorchManipulator(PyTorchEstimator):
    """A manipulator, or any image-to-image model, as an ART estimator.

    `predict(x)` is the forged image M_k(x) of Eq. (1). The loss of x against y is the mean squared difference of M_k(x)
    and y on the [-1, 1] scale, y being what the model made of the clean images (ART's attacks take that by themselves).

    Examples:
        >>> stargan = PyTorchManipulator.from_pretrained("stargan", edit="Blond_Hair", input_shape=(3, 64, 64))
        >>> stargan.predict(np.zeros((1, 3, 64, 64), np.float32)).shape
        (1, 3, 64, 64)

    Args:
        model: a `Manipulator`; or any callable that maps (B, 3, H, W) within `clip_values` to the same.
        edit: the name of one of the manipulator's edits; the first by default. None for other models.
        attributes: five 0/1 labels of the faces in the order of `types.ATTRIBUTES`, for the edits that depend on them.
        input_shape: of one image.
        clip_values: lowest and highest value of a pixel.
        jitter: sigma of a fixed noise on the [-1, 1] scale; `loss_gradient` looks there, beside the image. At the clean
            image itself the gradient of a distance from its own output is exactly zero: sign attacks would return
            their input without an error.
        preprocessing_defences: as in ART; gradients flow through those made for PyTorch.
        postprocessing_defences: as in ART.
        preprocessing: as in ART; a `Manipulator` scales its images itself, and takes neither mean nor std.
        device_type: "gpu" (where there is one) or "cpu".

    A module loses DataParallel, DDP and torch.compile and is frozen in eval mode: wrap a copy of one in training.

    Traps of ART's own attacks: `FastGradientMethod` ignores `mask` on all but classifiers, without a word (take
    `BasicIterativeMethod` with max_iter=1, or `attacks.ClassifierAttack`); bounds are in units of `clip_values`.

    Raises:
        IDGuardError: an edit that the model does not have, or a parameter with a wrong value.
    """

    estimator_params = [*PyTorchEstimator.estimator_params, "edit", "attributes", "jitter"]  # noqa: RUF012 - ART's

    def __init__(
        self,
        model: Manipulator | Callable[[Tensor], Tensor],
        *,
        edit: str | None = None,
        attributes: tuple[float, ...] = (0.0,) * len(ATTRIBUTES),
        input_shape: tuple[int, int, int] = (3, 256, 256),
        clip_values: tuple[float, float] = (0.0, 1.0),
        jitter: float = 1e-3,
        preprocessing_defences: Any = None,
        postprocessing_defences: Any = None,
        preprocessing: Any = (0.0, 1.0),
        device_type: str = "gpu",
    ) -> None:
        super().__init__(
            model=unwrapped(model),
            device_type=device_type,
            channels_first=True,
            clip_values=clip_values,
            preprocessing_defences=preprocessing_defences,
            postprocessing_defences=postprocessing_defences,
            preprocessing=preprocessing,
        )
        self.attributes = attributes
        self.jitter = jitter
        self._input_shape = input_shape
        self._edit = edit
        self._check_params()

    @classmethod
    def from_pretrained(cls, spec: str | Path, **options: Any) -> Self:
        """The estimator of a trained manipulator: a folder, a Hub id, or name=file; see `manipulators.load`."""
        return cls(manipulators.load(spec), **options)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(3, H, W)."""
        return self._input_shape

    @property
    def edit(self) -> str | None:
        """What the manipulator is asked to do."""
        return self._edit

    @edit.setter
    def edit(self, name: str | None) -> None:
        names = self.edit_names
        if name is not None and name not in names:
            known = ", ".join(names) or "none, it is no Manipulator"
            raise IDGuardError(f"unknown edit {name!r}; this model has: {known}")
        self._edit = name or (names[0] if names else None)

    @property
    def pixel_range(self) -> PixelRange:
        """The `clip_values` as two floats."""
        return PixelRange(*map(float, self.clip_values))

    @property
    def edit_names(self) -> tuple[str, ...]:
        """The names of this manipulator's edits."""
        return tuple(self._edits(1)) if isinstance(self._model, Manipulator) else ()

    def _edits(self, count: int) -> dict[Any, Edit]:
        labels = torch.tensor(self.attributes, dtype=torch.float32, device=self.device).expand(count, -1)
        return {edit.name: edit for edit in self._model.edits(labels)}

    @property
    def layer_names(self) -> list[str]:
        """`features` (the paper's E_k) for a manipulator, then the names of the model's modules."""
        own = ["features"] if isinstance(self._model, Manipulator) else []
        modules = self._model.named_modules() if isinstance(self._model, nn.Module) else ()
        return own + [name for name, _ in modules if name]

    def signed(self, x: Tensor) -> Tensor:
        """Pixels within `clip_values` on the [-1, 1] scale."""
        return self.pixel_range.signed(x)

    def unsigned(self, x: Tensor) -> Tensor:
        """Pixels on the [-1, 1] scale within `clip_values`."""
        return self.pixel_range.unsigned(x)

    def forward(self, x: Float[Tensor, "B 3 H W"], edit: str | None = None) -> Float[Tensor, "B 3 H W"]:
        """The model with its preprocessing, by default under its own edit: differentiable, within `clip_values`."""
        x = within_torch(self, x)
        own = isinstance(self._model, Manipulator)
        output = self.unsigned(self._manipulation(x, edit).output) if own else self._model(x)
        if not isinstance(output, Tensor) or output.shape != x.shape:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise IDGuardError(f"the model returned {found} for images of {tuple(x.shape)}; the same is due")
        return output

    def _manipulation(self, x: Tensor, edit: str | None = None) -> Manipulation:
        if any(side % self._model.multiple for side in x.shape[-2:]):
            raise IDGuardError(
                f"{self._model.name} takes images with sides that are multiples of {self._model.multiple}, "
                f"found {x.shape[-2]} x {x.shape[-1]}; crop or resize them"
            )
        return self._model(self.signed(x), self._edits(len(x))[edit or self.edit])

    def distance(self, x: Float[Tensor, "B 3 H W"], y: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """Mean squared difference of M_k(x) and y, on the [-1, 1] scale, beside x by the jitter."""
        noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
        beside = x + self.jitter * noise * self.pixel_range.span / 2
        return l2_image(self.signed(self.forward(beside)), self.signed(y))

    def predict(self, x: np.ndarray, batch_size: int = 128, **_: Any) -> np.ndarray:
        """The forged images, float32, with the shape and range of x.

        Raises:
            IDGuardError: see `check_images`; or the forged images are not finite.
        """
        x = before_torch(self, check_images(x, self.clip_values))
        forged = np.empty(x.shape, np.float32)
        with torch.no_grad():
            for part in batches(x, batch_size):
                forged[part] = self.forward(to_tensor(x[part], self.device)).cpu().numpy()
        check_output(forged)
        if not isinstance(self._model, Manipulator) and forged.size:
            warn_of_range(forged, self.pixel_range)
        return self._apply_postprocessing(forged, fit=False)

    def loss_gradient(self, x: np.ndarray, y: np.ndarray, **_: Any) -> np.ndarray:
        """The gradient by x of each image's distance from y, see `distance`; warns where it is zero or not finite.

        Raises:
            IDGuardError: see `check_images`; y is no output of the model; or the output has no gradient by x.
        """
        clean = check_images(x, self.clip_values)
        if not len(clean):
            return np.zeros(clean.shape, np.float32)
        inputs = to_tensor(before_torch(self, clean), self.device).requires_grad_()
        gradient = differentiate(self.distance(inputs, self._output(y, clean)), inputs)
        warn_if_flat(is_steep(gradient))
        result = gradient.cpu().numpy()
        return result if self.all_framework_preprocessing else self._apply_preprocessing_gradient(x, result)

    def compute_loss(self, x: np.ndarray, y: np.ndarray, **_: Any) -> np.ndarray:
        """(N,) mean squared differences of M_k(x) and y, on the [-1, 1] scale."""
        return l2_image(self._signed(self.predict(x)), self.signed(self._output(y, x))).cpu().numpy()

    def _output(self, y: np.ndarray, x: np.ndarray) -> Tensor:
        if np.shape(y) != np.shape(x):
            raise IDGuardError(
                f"y is what the model made of the clean images, of shape {np.shape(x)}, found {np.shape(y)}; "
                "ART's attacks find it by themselves"
            )
        return to_tensor(y, self.device)

    def get_activations(
        self, x: np.ndarray | Tensor, layer: int | str = "features", batch_size: int = 128, framework: bool = False
    ) -> Any:
        """What a layer of `layer_names` returns; "features" are the paper's E_k.

        With `framework`, a torch tensor: of a tensor x with its graph, as attacks on features need it.

        Raises:
            IDGuardError: there is no such layer, or no image; see `check_images`.
        """
        names = self.layer_names
        if layer not in names and layer not in range(len(names)):
            raise IDGuardError(f"unknown layer {layer!r}; choose from: {', '.join(names)}")
        name = names[layer] if isinstance(layer, int) else layer
        if framework and isinstance(x, Tensor):
            return self._activation(x, name)
        x = before_torch(self, check_images(np.asarray(x), self.clip_values))
        if not len(x):
            raise IDGuardError("found no images: the shape of their activations cannot be told")
        with torch.no_grad():
            parts = [self._activation(to_tensor(x[part], self.device), name) for part in batches(x, batch_size)]
        activations = torch.cat(parts)
        return activations if framework else activations.cpu().numpy()

    def _activation(self, x: Tensor, name: str) -> Tensor:
        if name == "features" and isinstance(self._model, Manipulator):
            return self._manipulation(within_torch(self, x)).features
        with output_of(self._model, name) as outputs:
            self.forward(x)
        if not outputs:
            raise IDGuardError(f"layer {name!r} takes no part in this model's output")
        return outputs[-1]

    def fit(self, x: np.ndarray, y: Any, batch_size: int = 128, nb_epochs: int = 20, **_: Any) -> None:
        """Raises NotImplementedError: see `defences.ManipulatorAdversarialTrainer`."""
        raise NotImplementedError(
            "a GAN is not fitted to pairs of x and y; train it with art_idguard.defences.ManipulatorAdversarialTrainer "
            "or with art-idguard train-manipulator"
        )

    def disruption(self, x: np.ndarray, x_adv: np.ndarray, recognizer: Recognizer | None = None) -> "Disruption":
        """What an attack did to the forged faces (section IV-A4); NaN, with a warning, where no face is found.

        Args:
            x: clean images (N, 3, H, W) within `clip_values`, one face each.
            x_adv: the same images, attacked.
            recognizer: judges identity; by default the one that ships.

        Raises:
            IDGuardError: see `check_images`; or x and x_adv differ in shape.
        """
        if np.shape(x) != np.shape(x_adv):
            raise IDGuardError(f"x and x_adv are the same images, found {np.shape(x)} and {np.shape(x_adv)}")
        recognizer = (recognizers.default() if recognizer is None else recognizer).to(self.device)
        x = check_images(x, self.clip_values)
        parts = [
            disruption(
                self._signed(x[i]), self._signed(self.predict(x[i])), self._signed(self.predict(x_adv[i])), recognizer
            )
            for i in batches(x, 32)
        ]
        values = torch.cat([torch.empty(2, 0), *parts], dim=1)
        if missing := int(values[0].isnan().sum()):
            warnings.warn(f"no face found in {missing} of {len(x)} images; they count as not disrupted", stacklevel=2)
        return Disruption(*values.numpy())

    def _check_params(self) -> None:
        super()._check_params()
        if not callable(self._model):
            raise IDGuardError(f"`model` has to be a Manipulator or another callable, found {self._model!r}")
        if isinstance(self._model, nn.Module):
            self._model.to(self.device).eval().requires_grad_(False)
        refuse_standardisation(self)
        check_settings(self)
        self.edit = self._edit

    def _signed(self, x: np.ndarray) -> Tensor:
        return self.signed(to_tensor(x, self.device))
