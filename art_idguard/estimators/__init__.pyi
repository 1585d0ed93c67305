from .disruption import Disruption as Disruption
from .manipulator import PyTorchManipulator as PyTorchManipulator
