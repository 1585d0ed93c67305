"""The Protector: perturbation generator and prior perturbation, bounded (Eq. 14).

Notation (name here -> the paper's symbol):
    generator -> G        prior -> delta_p        epsilon -> epsilon, on the [-1, 1] scale
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.hub.model import HubModel
from art_idguard.hub.shipped import shipped
from art_idguard.images import require_signed, resize
from art_idguard.perturbation.generators.base import Generator
from art_idguard.perturbation.generators.resnet import ResnetGenerator
from art_idguard.perturbation.generators.transformer import TransformerGenerator
from art_idguard.perturbation.generators.unet import UNetGenerator
from art_idguard.perturbation.visibility import Visibility
from art_idguard.types import Images, Protected, float32

GENERATORS: dict[str, type[Generator]] = {
    generator.name: generator for generator in (ResnetGenerator, UNetGenerator, TransformerGenerator)
}

Perturbation = Float[Tensor, "B 3 H W"]


def _residual(output: Perturbation, prior: Perturbation, epsilon: float) -> Perturbation:
    """The addition theorem: epsilon * tanh(a + b) from output = tanh(a) and 0.9 prior / epsilon = tanh(b).

    The generator corrects the prior in place of copying it. At 0.9 of the bound tanh still has a gradient.
    """
    share = 0.9 * prior / epsilon
    return epsilon * (output + share) / (1 + output * share)


BOUNDS: dict[str, Callable[[Perturbation, Perturbation, float], Perturbation]] = {
    "tanh": lambda output, prior, epsilon: epsilon * output,
    "clamp": lambda output, prior, epsilon: output.clamp(-epsilon, epsilon),
    "residual": _residual,
}
"""How the generator's output, a tanh, and the prior, in the ball, become a perturbation in the ball."""


class Protector(HubModel):
    """Protects faces of any size (Eq. 14); trained by Algorithm 1.

    Deviates: the official code clamps the generator's tanh to +-epsilon, which at its
    initialisation saturates 96 % of the pixels and blocks their gradient. The default here is
    epsilon * tanh; "clamp" is the official one. "residual", ours, adds the generator's tanh to the
    prior's, so that a generator that returns nothing already protects as well as the prior does.

    Examples:
        >>> protector = Protector.from_pretrained()
        >>> faces = torch.zeros(1, 3, 64, 64)  # grey, on [-1, 1]
        >>> with torch.inference_mode():
        ...     protected = protector(faces)
        >>> bool((protected.specific - faces).abs().max() <= protector.epsilon + 1e-6)
        True
        >>> protected.prior.shape
        torch.Size([1, 3, 64, 64])

    Args:
        generator: a name of `GENERATORS`.
        epsilon: L-inf bound of both perturbations, on the [-1, 1] scale.
        bound: how the generator's output is bounded, a name of `BOUNDS`.
        size: side of the prior perturbation in pixels, that of the faces trained on.
        generator_config: the generator's options where they differ from its defaults.
        lowpass: side in pixels of the box blur that both perturbations lose; see `Visibility`.
        chroma: share of their colour that stays; 1 is the paper's.
        fade: width in pixels over which they fall to nothing at the edge.

    Raises:
        IDGuardError: an unknown generator, option or bound, an epsilon outside (0, 2], or a visibility out of range.
    """

    name: ClassVar[str] = "protector"
    family = "protector"

    def __init__(
        self,
        *,
        generator: str = "resnet",
        epsilon: float = 0.05,
        bound: str = "tanh",
        size: int = 256,
        generator_config: dict[str, Any] | None = None,
        lowpass: int = 0,
        chroma: float = 1.0,
        fade: int = 0,
    ) -> None:
        super().__init__()
        if generator not in GENERATORS:
            raise IDGuardError(f"unknown generator {generator!r}; choose from: {', '.join(GENERATORS)}")
        if bound not in BOUNDS:
            raise IDGuardError(f"unknown bound {bound!r}; choose from: {', '.join(BOUNDS)}")
        if not 0 < epsilon <= 2:
            raise IDGuardError(f"epsilon is on the [-1, 1] scale, in (0, 2]; found {epsilon}")
        try:
            self.generator = GENERATORS[generator](**(generator_config or {}))
        except (TypeError, KeyError) as error:
            raise IDGuardError(f"wrong generator_config for {generator}: {error}") from error
        self.prior = nn.Parameter(torch.zeros(1, 3, size, size))
        self.epsilon = epsilon
        self.bound = bound
        self.visibility = Visibility(lowpass, chroma, fade)

    @property
    def side(self) -> int:
        """Side in pixels of the faces that it was trained on."""
        return self.prior.shape[-1]

    @torch.no_grad()
    @float32()
    def protect(self, faces: Float32[np.ndarray, "B 3 H W"]) -> Float32[np.ndarray, "B 3 H W"]:
        """`specific` of arrays, on the CPU; what an `ExportedProtector` has, too.

        Raises:
            IDGuardError: as `forward` does.
        """
        return self(torch.from_numpy(faces)).specific.numpy()

    def forward(self, x: Images) -> Protected:
        """Eq. (14): x + G(cat(x, delta_p)) and x + delta_p, both clamped to [-1, 1].

        The prior is resized bilinearly to x. Both results have x's dtype and lie within epsilon of
        x, up to the rounding of the sum.

        Raises:
            IDGuardError: x is no float (B, 3, H, W) within [-1, 1]; not looked for in training, where it would wait for
                the device.
        """
        if not self.training:
            require_signed(x)
        prior = self._prior(x)
        raw = self._generate(torch.cat((x, prior), 1)).to(x.dtype)
        perturbation = self.visibility.limit(BOUNDS[self.bound](raw, prior, self.epsilon), x, self.epsilon)
        return Protected((x + perturbation).clamp(-1, 1), (x + self.universal(x)).clamp(-1, 1))

    def universal(self, x: Images) -> Perturbation:
        """P-Pert alone, as it is added to these faces: the same for all of them, of their size; runs no generator."""
        if not self.training:
            require_signed(x)
        return self.visibility.limit(self._prior(x), x, self.epsilon)

    def _prior(self, x: Images) -> Perturbation:
        prior = self.prior.clamp(-self.epsilon, self.epsilon)
        return resize(prior, (x.shape[-2], x.shape[-1])).to(x.dtype).expand_as(x)

    def _generate(self, x: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 3 H W"]:
        """The generator at any size: padded to its multiple (right and below), then cropped."""
        height, width = x.shape[-2:]
        multiple = self.generator.multiple
        padding = (0, -width % multiple, 0, -height % multiple)
        # Edges are repeated, not mirrored: a mirror image cannot be larger than the picture.
        padded = F.pad(x, padding, mode="replicate") if any(padding) else x
        return self.generator(padded)[..., :height, :width]

    @torch.no_grad()
    def project_prior_(self) -> None:
        """Project the prior perturbation to its ball, in place: to call after each optimiser step.

        Deviates: the official code only clamps where the prior is used, so that a value which
        drifts beyond the bound gets no gradient any more and stays there.
        """
        self.prior.clamp_(-self.epsilon, self.epsilon)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None = None, **options: Any) -> Self:
        """A trained protector, in eval mode.

        Args:
            pretrained_model_name_or_path: folder or Hub id; by default the protector that ships
                with the package.
            options: revision, token and so on, see `PyTorchModelHubMixin.from_pretrained`.

        Raises:
            WeightsError: there are no weights, or they are damaged or do not fit their config.json.
        """
        source = pretrained_model_name_or_path
        if source is None:
            source = shipped("protectors/default")
            if not source.is_dir():
                raise WeightsError(
                    f"no protector ships with this installation (expected {source}); "
                    "name a folder or Hub id, or train one: art-idguard train"
                )
        return super().from_pretrained(source, **options)
