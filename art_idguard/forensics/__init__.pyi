from .payload import Payload as Payload
from .payload import decode as decode
from .payload import encode as encode
from .watermarker import Watermarker as Watermarker
