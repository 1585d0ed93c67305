"""log.jsonl and TensorBoard: one record a step, cut to where a run goes on."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import replacing


class LogFile:
    """JSON lines in log.jsonl, and the same in TensorBoard; the main process writes, the others do not.

    Args:
        folder: of the run.
        step: that the run goes on from; what was noted of later ones, by a run that was killed, is left out.
        enabled: whether to write at all.
    """

    def __init__(self, folder: Path, *, step: int, enabled: bool) -> None:
        self.folder, self.step, self.enabled = folder, step, enabled

    def __enter__(self) -> Self:
        self.lines, self.writer = None, None
        if self.enabled:
            self.lines = _cut(self.folder / "log.jsonl", self.step).open("a")
            with suppress(ImportError):  # a bare training machine may lack tensorboard
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1)
        return self

    def write(self, record: dict[str, Any]) -> None:
        """Note a step; TensorBoard shows the entries that are groups of numbers."""
        if self.lines is None:
            return
        self.lines.write(json.dumps(record) + "\n")
        self.lines.flush()
        if self.writer is not None:
            for field, group in record.items():
                for name, value in group.items() if isinstance(group, dict) else ():
                    self.writer.add_scalar(f"{field}/{name}", value, record["step"])

    def __exit__(self, *_: object) -> None:
        for file in (self.lines, self.writer):
            if file is not None:
                file.close()


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
