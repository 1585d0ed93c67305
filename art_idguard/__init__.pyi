from .attacks import ClassifierAttack as ClassifierAttack
from .attacks import IDGuardAttack as IDGuardAttack
from .attacks import IDGuardUniversalAttack as IDGuardUniversalAttack
from .attacks import TorchAttack as TorchAttack
from .defences import IDGuardPreprocessor as IDGuardPreprocessor
from .defences import ManipulatorAdversarialTrainer as ManipulatorAdversarialTrainer
from .errors import IDGuardError as IDGuardError
from .errors import WeightsError as WeightsError
from .estimators.manipulator import PyTorchManipulator as PyTorchManipulator
from .hub.shipped import list_models as list_models
from .manipulators import MANIPULATORS as MANIPULATORS
from .perturbation import Protector as Protector
from .perturbation.refined import RefinedProtector as RefinedProtector
from .perturbation.weakened import WeakenedProtector as WeakenedProtector
from .recognizers import RECOGNIZERS as RECOGNIZERS
from .weighting import WEIGHTINGS as WEIGHTINGS

__version__: str
