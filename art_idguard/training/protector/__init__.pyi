from .config import ProtectorConfig as ProtectorConfig
from .train import train_protector as train_protector
