"""What a type checker knows of the public names; mypy reads this, nothing runs it."""

from typing import assert_type

import numpy as np

from art_idguard import MANIPULATORS, IDGuardAttack, Protector, PyTorchManipulator, RefinedProtector
from art_idguard.evaluation import evaluate
from art_idguard.manipulators import Manipulator
from art_idguard.plugins import Registry
from art_idguard.training.protector import ProtectorConfig, train_protector


def uses() -> None:
    protector = Protector.from_pretrained()
    assert_type(protector, Protector)
    assert_type(RefinedProtector(protector, [], []), RefinedProtector)
    assert_type(MANIPULATORS, Registry[type[Manipulator]])
    estimator = PyTorchManipulator.from_pretrained("stargan")
    assert_type(estimator, PyTorchManipulator)
    attack = IDGuardAttack.from_pretrained(estimator=estimator, batch_size=2)
    assert_type(attack, IDGuardAttack)
    assert_type(attack.eps, float)
    attack.generate(np.zeros((1, 3, 64, 64), np.float32))
    IDGuardAttack(estimator, protector, batchsize=2)  # type: ignore[call-arg]  # has to be an error
    ProtectorConfig.from_recipe(None, faces="faces", manipulators=("stargan",), output="run")


__all__ = ["evaluate", "train_protector"]
