"""The page: what stands on it, and which handler answers what."""

from typing import Any, NamedTuple

import gradio as gr

from art_idguard.serve.handlers import Handlers
from art_idguard.serve.sessions import KEPT_SECONDS, SessionFiles
from art_idguard.serve.words import ASK_ALL, HINT, STRONGER, WHOLE
from art_idguard.serve.work import Models, name_of

MAX_WAITING = 16

INTRODUCTION = """
# Protect a face photo

This adds a faint pattern to every face in a photo, so that face-editing tools such as StarGAN make something else of
it. **How much that helps depends on the photo: the page says so when it is done.** The network that ships with
art-idguard is a first one, trained against four small tools. It moves what they make, but in our measurements the
person in it mostly stayed recognisable. It does not stop anyone from misusing a photo.
"""

LIMITS = """
**Limits and responsible use.** Photos up to 50 MB and 50 megapixels; no animations or videos.
The result is a PNG: converting it to JPEG, resizing or cropping it can weaken the effect, and someone who cleans the
photo or trains a tool on protected photos can undo it. Use photos of yourself, or of people who have agreed:
the tools are here to show the effect, not to forge anyone. The networks that ship are for non-commercial research.

**Privacy.** Your photo is worked on by the computer that serves this page and by nobody else; it is deleted there
when you close the page or choose another photo, and after an hour at the latest.
"""

CSS = """
.gradio-container {max-width: 1200px !important; margin: auto; overflow: clip !important}
.tools {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); gap: 16px}
.tools h3 {margin: 0 0 4px} .pictures {display: flex; gap: 8px}
.tools figure {margin: 0; flex: 1; min-width: 0} .tools img {width: 100%; border-radius: 6px}
.tools figcaption {text-align: center}
.figures table {display: block; overflow-x: auto}
.figures th, .figures td {padding: 4px 6px !important; word-break: normal !important}
.working {position: sticky !important; top: 0; z-index: 10}
.block.working {background: var(--body-background-fill)} button.working {top: 70px}
input[type=range]::-webkit-slider-thumb {border: 1px solid var(--neutral-500) !important}
input[type=range]::-moz-range-thumb {border: 1px solid var(--neutral-500) !important}
"""

THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]).set(
    body_text_color_subdued="*neutral_500",  # Gradio's own text on these is too pale to be read by everybody
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_cancel_background_fill=gr.themes.colors.red.c700,
    button_cancel_background_fill_hover=gr.themes.colors.red.c800,
)

_AT_ONCE: Any = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}


class _Controls(NamedTuple):
    """What a person sets and presses."""

    upload: gr.File
    thumbnail: gr.Image
    example: gr.Button
    strength: gr.Slider
    chosen: gr.CheckboxGroup
    edit: gr.Dropdown
    whole: gr.Checkbox
    strip: gr.Checkbox
    protect: gr.Button
    strengthen: gr.Button


class _Work(NamedTuple):
    """What is there while a person waits."""

    progress: gr.Markdown
    stop: gr.Button


class _Results(NamedTuple):
    """What a person is shown, in the order in which the handlers give it."""

    said: gr.Markdown
    figures: gr.Markdown
    kept: gr.State
    download: gr.DownloadButton
    compared: gr.ImageSlider
    pictures: gr.HTML


def build_app(models: Models, files: SessionFiles) -> gr.Blocks:
    """The page.

    Args:
        models: what protects and what judges.
        files: where Gradio keeps uploads, and this the files to download.
    """
    with gr.Blocks(
        title="art-idguard", fill_width=True, analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)
    ) as app:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                controls = _controls(models)
            with gr.Column(scale=3, min_width=280):
                work = _Work(
                    gr.Markdown(min_height=70, visible="hidden", elem_classes="working"),
                    gr.Button("Stop", variant="stop", visible=False, elem_classes="working"),
                )
                results, ask_all = _results()
        gr.Markdown(LIMITS)
        handlers = Handlers(models, files)
        _photo_comes(handlers, controls, results)
        _work_is_done(handlers, controls, work, results, ask_all)
        app.unload(handlers.forget)
    return app.queue(max_size=MAX_WAITING, api_open=False)


def _controls(models: Models) -> _Controls:
    edits = models.edits()
    names = [(name_of(manipulator), i) for i, manipulator in enumerate(models.manipulators)]
    upload = gr.File(label="Photo (JPEG, PNG, WebP, TIFF, ...)", height=180)
    thumbnail = gr.Image(label="Your photo", show_label=False, height=180, visible=False, interactive=False, buttons=[])
    example = gr.Button("Use an example photo", size="sm")
    strength = gr.Slider(0.2, 1, 1, step=0.1, label="Strength", info="With less, less is seen and less is protected.")
    with gr.Accordion("Settings", open=False):
        chosen = gr.CheckboxGroup(names, value=[i for _, i in names], label="Tools to ask")
        edit = gr.Dropdown(
            [(name.replace("_", " "), name) for name in edits],
            value="Blond_Hair" if "Blond_Hair" in edits else next(iter(edits), None),
            label="What they are asked for",
        )
        whole = gr.Checkbox(label=WHOLE)
        strip = gr.Checkbox(value=True, label="Leave out camera, date and place")
    protect = gr.Button("Protect", variant="primary")
    strengthen = gr.Button(STRONGER)
    return _Controls(upload, thumbnail, example, strength, chosen, edit, whole, strip, protect, strengthen)


def _results() -> tuple[_Results, gr.Button]:
    """And the button with which to ask for more."""
    said = gr.Markdown(HINT)
    with gr.Row():
        download = gr.DownloadButton("Download protected photo", interactive=False)
        ask_all = gr.Button(ASK_ALL)
    compared = gr.ImageSlider(
        label="Original | protected (the wheel zooms)",
        visible=False,
        interactive=False,
        buttons=["fullscreen"],
    )
    pictures = gr.HTML()
    with gr.Accordion("The numbers", open=False):
        figures = gr.Markdown(elem_classes="figures")
    return _Results(said, figures, gr.State(), download, compared, pictures), ask_all


def _photo_comes(handlers: Handlers, controls: _Controls, results: _Results) -> None:
    """What is shown of the photo before goes at once; the thumbnail may have to wait for others'."""
    upload = controls.upload
    controls.example.click(handlers.example, None, upload, api_visibility="private", show_progress_on=upload)
    upload.change(handlers.take, upload, list(results), **_AT_ONCE).then(
        handlers.preview, upload, [results.said, controls.thumbnail], api_visibility="private", show_progress_on=upload
    )


def _work_is_done(handlers: Handlers, controls: _Controls, work: _Work, results: _Results, ask_all: gr.Button) -> None:
    """While it is, the buttons that make work wait, and there is one that ends it."""
    upload, strength = controls.upload, controls.strength
    options = [controls.chosen, controls.edit, controls.whole, controls.strip]
    shown = [controls.protect, controls.strengthen, ask_all, *work]
    for button, handler, inputs, outputs in (
        (controls.protect, handlers.protect, [upload, strength, *options], [*results, strength]),
        (controls.strengthen, handlers.strengthen, [upload, *options], [*results, strength]),
        (ask_all, handlers.ask_all, [results.kept], list(results[:3])),
    ):
        button.click(handlers.begin, None, shown, **_AT_ONCE).then(
            handler,
            inputs,
            outputs,
            concurrency_id="photo",
            concurrency_limit=1,  # the face detector is one network, and memory holds one large photo at a time
            api_visibility="private",
            show_progress_on=work.progress,
            scroll_to_output=True,
        ).then(handlers.end, None, shown, **_AT_ONCE)
    work.stop.click(handlers.stop, None, work.stop, **_AT_ONCE)
