"""Harden StarGAN through ART: ID-Guard attacks inside its training (Eq. 15); PGD before and after tells what it won.

    python examples/harden_with_art.py --faces FOLDER --epochs 5

The folder holds pictures and train.csv (columns file and the attributes as 0/1), or is a data set folder as
`art-idguard train` takes it. Real hardening takes a GPU and hours, see `art-idguard harden`; this shows the calls.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from art.attacks.evasion import ProjectedGradientDescent

from art_idguard import IDGuardAttack, PyTorchManipulator
from art_idguard.data.reading import read_labelled
from art_idguard.defences import ManipulatorAdversarialTrainer
from art_idguard.images import from_uint8, to_unit
from art_idguard.types import ATTRIBUTES

SHIPPED = Path(__file__).parents[1] / "hub" / "manipulators" / "stargan-celeba128"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="labelled faces")
    parser.add_argument("--manipulator", default=str(SHIPPED), help="folder or Hub id")
    parser.add_argument("--protector", help="folder or Hub id (default: the one that ships)")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--limit", type=int, default=64, help="faces")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--warmup", type=int, help="steps of the new discriminator alone (default: up to 1000)")
    parser.add_argument("--channels", type=int, default=64, help="width of the new discriminator")
    options = parser.parse_args(argv)

    images, labels = read_labelled(options.faces, attributes=ATTRIBUTES, size=options.size, limit=options.limit)
    x, y = to_unit(from_uint8(images)).numpy(), labels.numpy()
    estimator = PyTorchManipulator.from_pretrained(options.manipulator, input_shape=x.shape[1:])
    pgd = ProjectedGradientDescent(estimator, eps=0.025, eps_step=0.005, max_iter=10, verbose=False)

    def reached() -> float:
        probe = x[:4]
        return float(estimator.compute_loss(pgd.generate(probe), estimator.predict(probe)).mean())

    before = reached()
    attack = IDGuardAttack.from_pretrained(options.protector, estimator=estimator, verbose=False)
    trainer = ManipulatorAdversarialTrainer(estimator, attack)
    settings = {"n_critic": 1, "channels": options.channels}
    settings |= {} if options.warmup is None else {"warmup": options.warmup}
    trainer.fit(x, y, batch_size=options.batch_size, nb_epochs=options.epochs, **settings)
    print(f"PGD-10 moves the forged faces by {before:.4f} before and {reached():.4f} after (mean squared, [-1, 1])")


if __name__ == "__main__":
    main()
