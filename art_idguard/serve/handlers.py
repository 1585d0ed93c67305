"""Handlers of the page's events: a photo comes, is protected, and is forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from art_idguard.errors import IDGuardError
from art_idguard.photos.finding import RESULTS
from art_idguard.serve.html import Models, protect_upload
from art_idguard.serve.sessions import SessionFiles


@dataclass(frozen=True)
class Handlers:
    """Of the page's events.

    Attributes:
        models: what protects and what judges.
        files: where Gradio keeps uploads, and this the files to download.
    """

    models: Models
    files: SessionFiles

    def forget(self, request: gr.Request) -> None:
        """The page was closed."""
        self.files.close(request.session_hash)

    def take(self, upload: str | None, request: gr.Request) -> tuple[str, dict[str, Any]]:
        """A new photo: what is left of the one before it goes."""
        path = Path(upload) if upload else None
        self.files.forget(request.session_hash, but=path)
        if path:
            self.files.keep(request.session_hash, path)
        return "", gr.update(value=None, interactive=False)

    def protect(
        self,
        upload: str | None,
        strength: object,
        chosen: Sequence[object],
        edit: object,
        whole: bool,
        strip: bool,
        request: gr.Request,
    ) -> tuple[str, dict[str, Any]]:
        """What is shown of a photo as it is protected, and the file to download; a client may send anything."""
        if upload is None:
            raise gr.Error("Choose a photo first.", print_exception=False)
        path = self.files.keep(request.session_hash, Path(upload))
        target = self.files.new(request.session_hash, f"{path.stem}{RESULTS['png']}")
        gallery = [manipulator for i, manipulator in enumerate(self.models.manipulators) if i in chosen]
        try:
            report = protect_upload(
                path,
                target,
                self.models,
                strength=strength,
                gallery=gallery,
                edit=str(edit),
                whole=whole,
                strip_metadata=strip,
            )
        except IDGuardError as error:
            raise gr.Error(str(error).replace(upload, path.name), duration=None, print_exception=False) from error
        finally:
            # forgotten meanwhile: the page was closed, or got another photo
            if not self.files.has(request.session_hash, path):
                self.files.delete(target)
        return report, gr.update(value=target, interactive=True)
