from .config import WatermarkConfig as WatermarkConfig
from .train import train_watermarker as train_watermarker
