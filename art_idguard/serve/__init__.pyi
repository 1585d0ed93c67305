from .app import serve as serve
