"""log.jsonl and accelerate's trackers: one record a step, cut to where a run goes on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, TensorBoardTracker, filter_trackers
from PIL import Image

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import replacing

PROJECT = "art-idguard"
"""What trackers of many runs file them under."""


def make_trackers(names: Sequence[str] | None, folder: Path, *, step: int) -> list[str | GeneralTracker]:
    """What `Accelerator(log_with=...)` takes for these names; None: TensorBoard, where it is installed.

    Args:
        names: as accelerate calls them.
        folder: of the run, whose "tensorboard" TensorBoard reads.
        step: that the run goes on from; TensorBoard forgets what was noted of later ones, by a run that was killed.

    Raises:
        IDGuardError: accelerate knows no such tracker, or its package is not installed.
    """
    chosen = filter_trackers(["tensorboard"], folder) if names is None else names
    chosen = list(dict.fromkeys(map(str, chosen)))
    for name in chosen:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise IDGuardError(f"unknown tracker {name!r}; choose from: {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if not filter_trackers([name], folder):
            raise IDGuardError(f"the tracker {name} is not installed: pip install {name}, or choose other trackers")
    tensorboard = TensorBoardTracker("tensorboard", folder, purge_step=step + 1)
    return [tensorboard if name == "tensorboard" else name for name in chosen]


class LogFile:
    """JSON lines in log.jsonl, and the same for the trackers; the main process writes, the others do not.

    Args:
        folder: of the run.
        step: that the run goes on from; what was noted of later ones, by a run that was killed, is left out.
        accelerator: of the run, with its trackers.
    """

    def __init__(self, folder: Path, *, step: int, accelerator: Accelerator) -> None:
        self.folder, self.step, self.accelerator = folder, step, accelerator
        self.lines: TextIO | None = None

    def __enter__(self) -> Self:
        """Raises IDGuardError for a damaged log, or a tracker that does not start."""
        if self.accelerator.is_main_process:
            path = _cut(self.folder / "log.jsonl", self.step)
            try:
                self.accelerator.init_trackers(PROJECT)
            except Exception as error:  # other people's packages, which may ask for a login or the network
                names = ", ".join(tracker.name for tracker in self.accelerator.trackers)
                raise IDGuardError(
                    f"cannot start the trackers, {names}: {type(error).__name__}: {error}; choose others"
                ) from error
            self.lines = path.open("a")
        return self

    def write(self, record: dict[str, Any], **beside: Mapping[str, float]) -> None:
        """Note a step; trackers get the entries that are groups of numbers, and those beside it, such as its rates."""
        if self.lines is None:
            return
        self.lines.write(json.dumps(record) + "\n")
        self.lines.flush()
        groups = {field: group for field, group in (record | beside).items() if isinstance(group, Mapping)}
        numbers = {f"{field}/{name}": value for field, group in groups.items() for name, value in group.items()}
        self.accelerator.log(numbers, step=record["step"])

    def show(self, picture: Path, *, step: int) -> None:
        """Put a picture file into TensorBoard."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                with Image.open(picture) as image:
                    tracker.log_images({"sample": np.asarray(image)[None]}, step=step, dataformats="NHWC")

    def __exit__(self, *_: object) -> None:
        if self.lines is not None:
            self.lines.close()
        for tracker in self.accelerator.trackers:  # not end_training, which ends the group of processes as well
            tracker.finish()


def _cut(path: Path, step: int) -> Path:
    """The log up to a step; the last line of a killed run may be half a line."""
    if path.is_file():
        whole = path.read_bytes().split(b"\n")[:-1]
        try:
            kept = b"".join(line + b"\n" for line in whole if _step(line) <= step)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise IDGuardError(f"{path} is damaged ({error}); move it away to go on without it") from error
        with replacing(path) as temporary:
            temporary.write_bytes(kept)
    return path


def _step(line: bytes) -> int:
    step = json.loads(line.decode("utf-8"))["step"]
    if type(step) is not int:
        raise ValueError(f"step {step!r}")
    return step
