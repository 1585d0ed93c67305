from .protection import evaluate as evaluate
