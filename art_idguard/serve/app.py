"""The running page, by Gradio (extra `serve`).

It works without a network: scripts come from this server, fonts from the system, and Gradio's analytics are off.
Pictures touch the disk only as `sessions` says.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from art_idguard import manipulators as manipulators_
from art_idguard import recognizers
from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.perturbation import Protector
from art_idguard.serve.address import in_brackets
from art_idguard.serve.config import ServeConfig
from art_idguard.serve.guard import MAX_UPLOAD, guards, without_proxies
from art_idguard.serve.page import CSS, THEME, build_app
from art_idguard.serve.sessions import SessionFiles
from art_idguard.serve.work import Models


def load_models(config: ServeConfig) -> Models:
    """What the settings name.

    Raises:
        IDGuardError: a model cannot be used.
    """
    specs = config.manipulators or manipulators_.shipped_manipulators()
    return Models(
        Protector.from_pretrained(config.model).requires_grad_(False),
        tuple(manipulators_.load(spec) for spec in specs),
        recognizers.default(),
        FaceDetector(),
    )


@contextmanager
def serving(models: Models, *, host: str = ServeConfig.host, port: int | None = None) -> Iterator[gr.Blocks]:
    """The running page (its address: `.local_url`) until the block ends.

    Raises:
        IDGuardError: the address cannot be used.
    """
    with SessionFiles.temporary() as files:
        app = build_app(models, files)
        try:
            with without_proxies():
                app.launch(
                    server_name=in_brackets(host),
                    server_port=port,
                    theme=THEME,
                    css=CSS,
                    max_file_size=MAX_UPLOAD,
                    app_kwargs={"middleware": guards(host, files)},
                    footer_links=[],
                    share=False,
                    run_history=False,  # would keep pictures in the browser
                    enable_monitoring=False,
                    ssr_mode=False,
                    mcp_server=False,
                    prevent_thread_lock=True,
                    quiet=True,
                )
        except Exception as error:  # where its server does not answer, Gradio raises no kind of its own
            raise IDGuardError(f"cannot serve on {host}:{port}: {error}") from error
        try:
            yield app
        finally:
            app.close(verbose=False)
