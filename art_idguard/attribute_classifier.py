"""A small attribute classifier: hair colour, gender, age and others; it says whether an edit succeeded."""

from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.errors import IDGuardError
from art_idguard.hub.model import HubModel
from art_idguard.hub.shipped import shipped
from art_idguard.images import resize
from art_idguard.types import ATTRIBUTES, Attributes, Images

LABELS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Male", "Young", "Bangs", "Eyeglasses")
"""What the classifier tells, in the order of its logits: all that the five manipulators edit."""

HAIR = LABELS[:4]


class AttributeClassifier(HubModel):
    """Seven convolutions (0.83 M parameters), trained by hub/train_attributes.py on CelebA.

    Args:
        channels: width of the first layer.
        size: side of the input in pixels, at most 1024; faces are resized to it.

    Raises:
        IDGuardError: another size.
    """

    name: ClassVar[str] = "attributes"

    def __init__(self, *, channels: int = 32, size: int = 64) -> None:
        super().__init__()
        if not 1 <= size <= 1024:  # the weights do not show it
            raise IDGuardError(f"size is {size}; expected 1 to 1024 pixels")
        self.size = size
        widths = (channels, 2 * channels, 4 * channels, 6 * channels)
        layers: list[nn.Module] = [_block(3, channels, stride=2)]
        for before, after in pairwise(widths):
            layers += [_block(before, after, stride=2), _block(after, after, stride=1)]
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(widths[-1], len(LABELS))

    def embed(self, x: Images) -> Float[Tensor, "B F"]:
        """Features of faces on the [-1, 1] scale, averaged over the picture."""
        return self.features(resize(x, (self.size, self.size))).mean(dim=(2, 3))

    def forward(self, x: Images) -> Float[Tensor, "B 8"]:
        """Logits of `LABELS` for faces on the [-1, 1] scale in CelebA's framing."""
        return self.head(self.dropout(self.embed(x)))


def _block(before: int, after: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def default() -> AttributeClassifier:
    """The classifier that ships with the package, frozen."""
    return AttributeClassifier.from_pretrained(shipped("classifiers/attributes-celeba128")).requires_grad_(False)


def predictions(logits: Float[Tensor, "B 8"]) -> Float[Tensor, "B 8"]:
    """Each attribute as 0/1: of the hair colours the most likely one alone.

    Grey is among them, lest grey hair that an edit failed to blacken count as black for want of anything nearer.
    """
    predicted = (logits > 0).to(logits)
    hair = logits[:, : len(HAIR)]
    predicted[:, : len(HAIR)] = nn.functional.one_hot(hair.argmax(dim=1), len(HAIR)).to(predicted)
    return predicted


def labels(classifier: AttributeClassifier, x: Images) -> Attributes:
    """What faces show of `types.ATTRIBUTES`, which says the edits that are plausible for them."""
    return predictions(classifier(x))[:, [LABELS.index(name) for name in ATTRIBUTES]]
