from .config import ManipulatorConfig as ManipulatorConfig
from .train import train_manipulator as train_manipulator
