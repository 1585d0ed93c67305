"""`art-idguard serve`: a page on which to protect a photo and see what that does, by Gradio (extra `serve`).

It works without a network: scripts come from this server, fonts from the system, and Gradio's analytics are off.
Pictures touch the disk only as `sessions` says; SIGTERM deletes them as Ctrl-C does, only SIGKILL leaves them.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from art_idguard import manipulators as manipulators_
from art_idguard import recognizers
from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.perturbation import Protector
from art_idguard.serve.config import ServeConfig
from art_idguard.serve.guard import MAX_UPLOAD, check_address, guards, in_brackets, without_proxies
from art_idguard.serve.handlers import Handlers
from art_idguard.serve.html import Models
from art_idguard.serve.sessions import KEPT_SECONDS, SessionFiles

MAX_WAITING = 16

INTRODUCTION = """
# art-idguard: protect a face photo against GAN face manipulation

One forward pass of a trained network (ID-Guard) adds a faint perturbation to every face in a photo, so that
manipulators such as StarGAN make something else of it. **What that does depends on the weights, and on your photo the
table below says what it does.** The protector that ships with the package is a first one: trained for six and a half
hours on two CPU cores, against four lightly trained manipulators at 128 x 128. It moves what they produce, but in
our measurements the person in the forged face stayed recognisable on every photo, and it has not been measured
against any other model. It does not stop anyone from misusing a photo.
"""

LIMITS = """
**Limits and responsible use.** Photos up to 50 MB and 50 megapixels; no animations or videos. Strength scales the
perturbation before it is rounded to whole 8-bit levels; the bound that results stands above the pictures.
The result is a PNG: converting it to JPEG, resizing or cropping it can weaken the effect, and someone who purifies the
photo or fine-tunes a manipulator on protected photos can undo it. Use photos of yourself, or of people who have agreed:
the manipulators are here to show the effect, not to forge anyone. The shipped weights are for non-commercial research.

**Privacy.** Your photo is worked on by the computer that serves this page and by nobody else; it is deleted there
when you close the page or choose another photo, and after an hour at the latest.
"""

CSS = """
.gradio-container {max-width: 1200px !important; margin: auto}
.result {overflow-x: auto !important; max-width: calc(100vw - 64px)}
.photos {display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 12px 0}
.photos figure {margin: 0} .photos img {width: 100%; border-radius: 6px} figcaption {text-align: center}
.result table {width: 100%; border-collapse: collapse} .result caption {padding: 8px 0; text-align: left}
.result table, .result tr, .result th, .result td {border: 0 solid var(--border-color-primary) !important}
.result th, .result td {padding: 4px 8px !important; text-align: center !important; vertical-align: middle}
.result tr {border-bottom-width: 1px !important} .result td img {width: 128px; max-width: none; margin: auto}
"""


def _models(config: ServeConfig) -> Models:
    specs = config.manipulators or manipulators_.shipped_manipulators()
    return Models(
        Protector.from_pretrained(config.model).requires_grad_(False),
        tuple(manipulators_.load(spec) for spec in specs),
        recognizers.default(),
        FaceDetector(),
    )


def build_app(models: Models, files: SessionFiles) -> gr.Blocks:
    """The page.

    Args:
        models: what protects and what judges.
        files: where Gradio keeps uploads, and this the files to download.
    """
    handlers = Handlers(models, files)
    edits = models.edits()
    names = [(manipulator.name, i) for i, manipulator in enumerate(models.manipulators)]
    with gr.Blocks(
        title="art-idguard", fill_width=True, analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)
    ) as app:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                upload = gr.File(label="Photo (JPEG, PNG, WebP, TIFF, ...)")
                strength = gr.Slider(0.2, 1, 1, step=0.1, label="Strength (share of the protector's bound)")
                chosen = gr.CheckboxGroup(names, value=[i for _, i in names], label="Manipulators to show")
                edit = gr.Dropdown(
                    [(name.replace("_", " "), name) for name in edits],
                    value="Blond_Hair" if "Blond_Hair" in edits else next(iter(edits), None),
                    label="Edit that they are asked for",
                )
                whole = gr.Checkbox(label="Protect the whole picture if no face is found (--whole)")
                strip = gr.Checkbox(value=True, label="Leave out camera, date and place (EXIF, XMP)")
                button = gr.Button("Protect", variant="primary")
                download = gr.DownloadButton("Download protected photo", interactive=False)
            with gr.Column(scale=3):
                result = gr.HTML(elem_classes="result")
        gr.Markdown(LIMITS)
        upload.change(
            handlers.take, upload, [result, download], queue=False, api_visibility="private", show_progress="hidden"
        )
        button.click(
            handlers.protect,
            [upload, strength, chosen, edit, whole, strip],
            [result, download],
            concurrency_limit=1,  # the face detector is one network, and memory holds one large photo at a time
            api_visibility="private",
            show_progress_on=result,
        )
        app.unload(handlers.forget)
    return app.queue(max_size=MAX_WAITING, api_open=False)


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
                    theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
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


def serve(**settings: Any) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        settings: the fields of `ServeConfig`.

    Raises:
        IDGuardError: a setting, a model or the address cannot be used.
    """
    config = ServeConfig.from_recipe(None, **settings)
    check_address(config.host, config.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that pictures are deleted then, too
    with serving(_models(config), host=config.host, port=config.port) as app:
        print(f"art-idguard serves on {app.local_url} (Ctrl-C ends it and deletes all pictures)", flush=True)
        app.block_thread()
