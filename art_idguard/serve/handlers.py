"""Handlers of the page's events: a photo comes, is protected, is judged, and is forgotten."""

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from art_idguard.errors import IDGuardError
from art_idguard.files.photo import Photo, read_photo
from art_idguard.photos.finding import RESULTS
from art_idguard.photos.protect import NoFaceError
from art_idguard.serve.html import pictures, shrunk
from art_idguard.serve.sessions import SessionFiles
from art_idguard.serve.words import HINT, READY, WHOLE, Result, result
from art_idguard.serve.work import MAX_PIXELS, Choices, Models, Note, ask_all, protect_upload

COMPARED_SIDE = 2048  # pixels of the longer side of a picture that can be zoomed into

_PROGRESS = gr.Progress()


class Kept(NamedTuple):
    """What a page has protected last: its files, and what is known of it."""

    photo: Path
    target: Path
    result: Result


class StoppedError(Exception):
    """Somebody pressed Stop, chose another photo or closed the page."""


@dataclass(frozen=True)
class Handlers:
    """Of the page's events.

    Attributes:
        models: what protects and what judges.
        files: where Gradio keeps uploads, and this the files to download.
    """

    models: Models
    files: SessionFiles
    _stops: dict[str | None, Event] = field(default_factory=dict)
    """Of the work that a session waits for, or that it waited for last."""
    _made: dict[str | None, tuple[Path, ...]] = field(default_factory=dict)
    """The files that a session has got last, which go when it gets the next."""

    def begin(self, request: gr.Request) -> list[dict[str, Any]]:
        """A button was pressed that makes work: those wait, and how far it is is shown, with a button that ends it."""
        self._stops[request.session_hash] = Event()
        stop = gr.update(value="Stop", visible=True, interactive=True)
        return [*[gr.update(interactive=False)] * 3, gr.update(visible=True), stop]

    def end(self) -> list[dict[str, Any]]:
        """The work is done, or is not to be."""
        return [*[gr.update(interactive=True)] * 3, gr.update(visible="hidden"), gr.update(visible=False)]

    def stop(self, request: gr.Request) -> dict[str, Any]:
        """The work ends at its next step."""
        if stop := self._stops.get(request.session_hash):
            stop.set()
        return gr.update(value="Stopping at the next step ...", interactive=False)

    def forget(self, request: gr.Request) -> None:
        """The page was closed."""
        self.stop(request)
        self._stops.pop(request.session_hash, None)
        self._made.pop(request.session_hash, None)
        self.files.close(request.session_hash)

    def example(self, request: gr.Request) -> str:
        """A photo that everybody may use: Eileen Collins, by NASA."""
        from skimage.data import astronaut  # comes with scikit-image, and is not fetched

        path = self.files.new(request.session_hash, "astronaut.png")
        Image.fromarray(astronaut()).save(path)
        return str(path)

    def take(self, upload: str | None, request: gr.Request) -> tuple[Any, ...]:
        """A new photo, or none: what is left of the one before it goes."""
        self.stop(request)
        path = Path(upload) if upload else None
        self.files.forget(request.session_hash, but=path)
        if path:
            self.files.keep(request.session_hash, path)
        return _nothing(READY if path else HINT)

    def preview(self, upload: str | None, request: gr.Request) -> tuple[Any, dict[str, Any]]:
        """What is wrong with a new photo, if anything is, and its thumbnail."""
        if upload is None:
            return gr.skip(), _HIDDEN
        path = Path(upload)
        try:
            photo = read_photo(path, max_pixels=MAX_PIXELS)
            return gr.skip(), gr.update(value=self._compared(request, path, photo, "original"), visible=True)
        except Exception as error:
            return self._sentence(error), _HIDDEN

    def protect(
        self,
        upload: str | None,
        strength: object,
        chosen: Sequence[object],
        edit: object,
        whole: bool,
        strip: bool,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> Any:
        """What is shown of a photo as it is protected, and the file to download; a client may send anything."""
        return self._protect(upload, self._choices(strength, chosen, edit, whole, strip), request, progress)

    def strengthen(
        self,
        upload: str | None,
        chosen: Sequence[object],
        edit: object,
        whole: bool,
        strip: bool,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> Any:
        """The same with PGD, at full strength."""
        choices = self._choices(1, chosen, edit, whole, strip)
        return self._protect(upload, replace(choices, refined=True), request, progress)

    def ask_all(self, kept: Kept | None, request: gr.Request, progress: gr.Progress = _PROGRESS) -> Any:
        """What every manipulator makes of the protected photo."""
        if kept is None:
            return "**Protect a photo first.**", gr.skip(), gr.skip()
        try:
            judged = ask_all(kept.photo, kept.target, self.models, self._note(request, progress))
        except StoppedError:
            return gr.skip()
        except Exception as error:
            return self._sentence(error), gr.skip(), gr.skip()
        kept = kept._replace(result=replace(kept.result, judged=judged))
        return str(kept.result), kept.result.figures(), kept

    def _choices(self, strength: object, chosen: Sequence[object], edit: object, whole: bool, strip: bool) -> Choices:
        gallery = [manipulator for i, manipulator in enumerate(self.models.manipulators) if i in chosen]
        return Choices(strength=strength, gallery=gallery, edit=str(edit), whole=whole, strip_metadata=strip)

    def _protect(self, upload: str | None, choices: Choices, request: gr.Request, progress: gr.Progress) -> Any:
        if upload is None:
            return (*_nothing("**Choose a photo first.**"), gr.skip())
        session = request.session_hash
        path = self.files.keep(session, Path(upload))
        target = self.files.new(session, f"{path.stem}{RESULTS['png']}")
        try:
            protection = protect_upload(path, target, self.models, choices, self._note(request, progress))
            photos = {"original": protection.done.photo, "protected": protection.done.written}
            compared = tuple(self._compared(request, path, photo, name) for name, photo in photos.items())
            if not self.files.has(session, path):  # the page was closed, or got another photo
                raise StoppedError
        except Exception as error:
            self.files.delete(target)
            return gr.skip() if isinstance(error, StoppedError) else (*_nothing(self._sentence(error)), gr.skip())
        for before in self._made.get(session, ()):
            self.files.delete(before)
        self._made[session] = (target, *compared)
        said = result(protection, choices)
        return (
            str(said),
            said.figures(),
            Kept(path, target, said),
            gr.update(value=target, interactive=True),
            gr.update(value=compared, visible=True),
            pictures(protection),
            choices.strength,
        )

    def _compared(self, request: gr.Request, path: Path, photo: Photo, name: str) -> Path:
        target = self.files.new(request.session_hash, f"{path.stem}.{name}.png")
        shrunk(photo.pixels, COMPARED_SIDE).save(target)
        return target

    def _note(self, request: gr.Request, progress: gr.Progress) -> Note:
        stop = self._stops.setdefault(request.session_hash, Event())

        def note(share: float, doing: str) -> None:
            if stop.is_set():
                raise StoppedError
            progress(share, desc=doing)

        return note

    def _sentence(self, error: Exception) -> str:
        """What went wrong, as a person is to read it: without the server's folders.

        Nothing is raised for it: Gradio would cover what it concerns, and leave out what is to come after.
        """
        if isinstance(error, NoFaceError):
            said = f"No face found. If there is one, choose “{WHOLE}” in the settings"
        elif isinstance(error, IDGuardError):
            said = re.sub(rf"{re.escape(str(self.files.folder))}/[^/]*/", "", str(error))
        else:
            traceback.print_exception(error)
            said = f"That is a fault of art-idguard, not yours ({type(error).__name__}); please report it"
        return f"**{escape(said)}.**"


_HIDDEN = gr.update(value=None, visible=False)


def _nothing(said: str) -> tuple[Any, ...]:
    """The results where there are none."""
    return said, "", None, gr.update(value=None, interactive=False), _HIDDEN, ""
