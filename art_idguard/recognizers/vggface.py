"""VGGFace (Parkhi et al. 2015): VGG-16 trained to tell 2,622 people apart."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard.images import to_unit
from art_idguard.recognizers.base import Recognizer


class VGGFace(Recognizer):
    """VGG-16 with class scores (145 M parameters); the official ID-Guard's heat maps come from it.

    Source: claudio-unipv/vggface-pytorch v0.1, whose entry names it keeps. Its dropout is left out:
    it does nothing in a frozen network. Input is RGB on [0, 1] without the subtraction of a mean,
    as the official ID-Guard feeds it.

    Deviates: the official code maps only those batches to [0, 1] whose least value is negative, so
    its scale hangs on the data; here every batch.

    Args:
        width: channels of the first block.
        classes: people that it tells apart.
    """

    name = "vggface"
    size = 224

    def __init__(self, *, width: int = 64, classes: int = 2622) -> None:
        super().__init__()
        self.conv1 = _Block(3, width, 2)
        self.conv2 = _Block(width, 2 * width, 2)
        self.conv3 = _Block(2 * width, 4 * width, 3)
        self.conv4 = _Block(4 * width, 8 * width, 3)
        self.conv5 = _Block(8 * width, 8 * width, 3)
        self.fc1 = nn.Linear(8 * width * 7 * 7, 64 * width)
        self.fc2 = nn.Linear(64 * width, 64 * width)
        self.fc3 = nn.Linear(64 * width, classes)

    def backbone(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """(B, 512, 7, 7), after the last pooling."""
        return self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(to_unit(faces))))))

    def head(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """(B, 4096): fc7, the paper's descriptor, after its ReLU."""
        return F.relu(self.fc2(F.relu(self.fc1(features.flatten(1)))))

    def classify(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B classes"]:
        """(B, 2622): the class scores of the backbone's features."""
        return self.fc3(self.head(features))


class _Block(nn.Module):
    """3x3 convolutions with ReLU, then a max-pool that rounds the size up."""

    def __init__(self, before: int, after: int, count: int) -> None:
        super().__init__()
        channels = [before] + [after] * count
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return F.max_pool2d(x, 2, ceil_mode=True)
