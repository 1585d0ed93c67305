"""`art-idguard serve`: a page on which to protect a photo and see what that does.

Gradio and the models take seconds to load, so that is said first, and what cannot work is refused before.
"""

import signal
import sys
from importlib.util import find_spec
from typing import Any

from art_idguard.errors import IDGuardError
from art_idguard.serve.address import check_address
from art_idguard.serve.config import ServeConfig


def serve(**settings: Any) -> None:
    """Serve the page until Ctrl-C or SIGTERM; either deletes the pictures, only SIGKILL leaves them.

    Args:
        settings: the fields of `ServeConfig`.

    Raises:
        IDGuardError: Gradio is not installed, or a setting, a model or the address cannot be used.
    """
    config = ServeConfig.from_recipe(None, **settings)
    if find_spec("gradio") is None:
        raise IDGuardError("serve needs Gradio; install it with: pip install 'art-idguard[serve]'")
    check_address(config.host, config.port)
    print("Loading the page and its models (ten to thirty seconds) ...", file=sys.stderr, flush=True)
    from art_idguard.serve.app import load_models, serving

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that pictures are deleted then, too
    with serving(load_models(config), host=config.host, port=config.port) as app:
        print(f"art-idguard serves on {app.local_url} (Ctrl-C ends it and deletes all pictures)", flush=True)
        app.block_thread()
