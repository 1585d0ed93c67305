from .start import serve as serve
