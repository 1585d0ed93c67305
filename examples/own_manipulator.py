"""One's own image-to-image model, attacked and protected: as a callable, and as a sixth manipulator.

`python examples/own_manipulator.py --faces FOLDER`. The model here is a filter that draws a face as a sketch; put
yours in its place. A callable is enough to attack. A `Manipulator` can also be trained against
(`IDGuardAttack.fit`, `art-idguard train`), evaluated (`art-idguard evaluate`), saved and loaded.
"""

import argparse
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from art.attacks.evasion import ProjectedGradientDescent
from portraits import load_faces, print_table
from torch import Tensor, nn
from torch.nn import functional as F

from art_idguard import MANIPULATORS, IDGuardAttack, PyTorchManipulator
from art_idguard.images import to_signed, to_unit
from art_idguard.manipulators import Manipulator
from art_idguard.types import Attributes, Edit, Images, Manipulation


def details(x: Tensor) -> Tensor:
    """What a blur takes away."""
    return x - F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


class Sketch(Manipulator):
    """The sixth manipulator. The contract: a name, edits, and one pass that gives the picture and E_k's features."""

    name: ClassVar[str] = "sketch"

    def __init__(self, *, gain: float = 8.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """A fine and a bold sketch; this model asks for no labels."""
        strengths = {"Fine": 0.5, "Bold": 1.0}
        return tuple(Edit(name, attributes.new_full((len(attributes), 1), s)) for name, s in strengths.items())

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1) on the [-1, 1] scale."""
        features = details(x)
        strength = edit.condition.to(x)[:, :, None, None]
        return Manipulation((self.gain * strength * features).tanh(), features)


MANIPULATORS[Sketch.name] = Sketch  # the one line: `art-idguard --import own_manipulator evaluate ...` knows it, too


def sketch(x: Tensor) -> Tensor:
    """The same model as a function of (B, 3, H, W) on [0, 1], as many models come."""
    return to_unit((8 * details(to_signed(x))).tanh())


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line; print a table for the callable and one for the manipulator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protector", help="folder or Hub id; by default the one that ships")
    parser.add_argument("--faces", help="folder or tar of faces; by default the portrait alone")
    parser.add_argument("--limit", type=int, default=8, help="faces")
    parser.add_argument("--size", type=int, default=128, help="side of the faces in pixels")
    parser.add_argument("--steps", type=int, default=10, help="of PGD")
    options = parser.parse_args(argv)
    x = load_faces(options.faces, size=options.size, limit=options.limit)

    with TemporaryDirectory() as folder:  # or push_to_hub, and a Hub id below
        Sketch().save_pretrained(folder)
        member = PyTorchManipulator.from_pretrained(folder, edit="Bold", input_shape=x.shape[1:])
    for title, estimator in {
        "As a callable": PyTorchManipulator(sketch, input_shape=x.shape[1:]),
        "As a manipulator": member,
    }.items():
        pgd = ProjectedGradientDescent(estimator, eps=0.025, eps_step=0.005, max_iter=options.steps, verbose=False)
        idguard = IDGuardAttack.from_pretrained(options.protector, estimator=estimator, verbose=False)
        print(f"\n## {title}\n")
        print_table(estimator, {"ART PGD": pgd, "ID-Guard": idguard}, x)


if __name__ == "__main__":
    main()
