"""The half of `hub/on_gpu.sh` that runs on a machine with a GPU and no network; `hub/for_gpu.py` is the other.

Networks travel in 8 bits a weight, with a scale for each output channel: four manipulators in half precision alone are
67 MB. That changes pictures and gradients as little as bf16 does: PSNR 57 to 66 dB and cosine 0.995 to 0.998, where
bf16 has 61 to 69 dB and 0.996 to 0.998 (four faces).
"""

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / ".pack"
WORK = Path.home() / "on_gpu"
"""What the pack held, and the runs: not in the checkout, which each call sends anew."""

TOTAL, CHECK, SAVING = 12.0, 1.0, 1.5
"""Minutes of everything, of unpacking and the self-check, and of starts and of saving."""
CALLS = (9.0, 3.0)
"""Minutes of the calls of `run`; a command may take 10."""
RESERVE = 15
"""Seconds at the end of a call, to save in."""
FEW = ("--steps=10", "--log-every=5")
"""The self-check's trainings."""
FILE, FILES, BACK = 16_000_000, 8, 66_000_000
"""Bytes of a result's file; how many files, and bytes, come back from a call."""


class Part(NamedTuple):
    """A training of the plan."""

    name: str
    recipe: Mapping[str, Any]
    minutes: float

    def words(self, options: Sequence[str]) -> list[str]:
        """The command of `art-idguard`, which goes on where there is a checkpoint."""
        command = "train-manipulator" if "manipulator" in self.recipe else "train"
        return [command, f"--recipe=hub/recipes/{self.name}.toml", "--resume", "--quiet", *options]

    @property
    def model(self) -> str:
        """The trained model's folder in the run's."""
        return "manipulator" if "manipulator" in self.recipe else "protector"

    @property
    def output(self) -> Path:
        """The run's folder."""
        return WORK / self.recipe["output"]

    @property
    def result(self) -> str:
        """The trained model's place, from which a later part may start."""
        return f"{self.recipe['output']}/{self.model}"


def plan(names: Sequence[str], recipes: Path) -> list[Part]:
    """Each recipe has its own minutes, or what those before it leave."""
    left, parts = TOTAL - CHECK - SAVING, []
    for name in names:
        recipe = tomllib.loads((recipes / f"{name}.toml").read_text())
        if left <= 0:
            sys.exit(f"{', '.join(names)} take {TOTAL:g} minutes and more: none is left for {name}; pack fewer")
        parts.append(Part(name, recipe, min(recipe["minutes"], left)))
        left -= parts[-1].minutes
    return parts


def table(parts: Sequence[Part]) -> str:
    """The plan as it is printed."""
    rows = [("unpacking, self-check", CHECK, "check.json: the GPU, versions, images a second")]
    rows += [(part.name, part.minutes, f"{part.name}.*: {part.model} in fp16, log, settings") for part in parts]
    rows.append(("starts, saving", SAVING, "run-*.log"))
    rows.append(("in all", sum(row[1] for row in rows), f"in calls of {' and '.join(f'{m:g}' for m in CALLS)} minutes"))
    return "\n".join(f"{what:24} {minutes:4.1f} min  {writes}" for what, minutes, writes in rows)


def quantised(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels and matrices in 8 bits, with a scale for each output channel; what is small stays as it is."""
    packed = {}
    for name, value in state.items():
        if value.dim() < 2 or len(value) == 1:
            packed[name] = value
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        packed |= {name: (rows / scale).round().to(torch.int8).view_as(value), f"{name}.scale": scale}
    return packed


def restored(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in half precision."""
    scales = {name.removesuffix(".scale"): value for name, value in packed.items() if name.endswith(".scale")}
    whole = {name: value for name, value in packed.items() if not name.endswith(".scale")}
    return whole | {name: (whole[name].flatten(1) * s).half().view_as(whole[name]) for name, s in scales.items()}


def restore(place: Path) -> None:
    """Make the networks that came in 8 bits files in half precision."""
    for path in place.rglob("*.safetensors.int8"):
        save_file(restored(load(path.read_bytes())), path.with_suffix(""))
        path.unlink()


def split(content: bytes, folder: Path, name: str, size: int) -> None:
    """Write files of a size, name.01-of-02 and so on, in place of older ones of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}.*-of-*"):
        old.unlink()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    for i, piece in enumerate(pieces):
        (folder / f"{name}.{i + 1:02}-of-{len(pieces):02}").write_bytes(piece)


def unpack(folder: Path, name: str, place: Path) -> bool:
    """Unpack a tar that `split` has written, where all of it is there; says if it is."""
    for last in folder.glob(f"{name}.*-of-*"):
        pieces = sorted(folder.glob(f"{name}.*-of-{(total := last.name[-2:])}"))
        if len(pieces) < int(total):
            continue
        with tarfile.open(fileobj=io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))) as tar:
            # Python 3.11 before its fourth release has no filters; the pack is of our own making.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(place)
        for piece in pieces:
            piece.unlink()
        restore(place)
        return True
    return False


def run(out: Path, minutes: float, options: Sequence[str]) -> None:
    """Unpack, check, and train what is not trained yet until the minutes are over; results go to `out`.

    Where a pack comes in several files, a call that has not all of them keeps those that it has.

    Args:
        out: folder.
        minutes: of this call.
        options: further ones of all trainings, for the rehearsal.
    """
    ends = time.monotonic() + 60 * minutes - RESERVE
    for piece in PACK.glob("pack.*"):
        WORK.mkdir(parents=True, exist_ok=True)
        shutil.move(piece, WORK / piece.name)
    if not unpack(WORK, "pack", WORK) and (pieces := sorted(path.name for path in WORK.glob("pack.*"))):
        print(f"{', '.join(pieces)}: the rest of the pack has to come")
        return
    if not (names := WORK / "names.json").is_file():
        sys.exit(f"no pack is in {PACK} and none has come before: make one (hub/on_gpu.sh pack) and send it along")
    parts = plan(json.loads(names.read_text()), WORK / "hub" / "recipes")
    print(table(parts))
    if not (torch.cuda.is_available() or options):
        sys.exit(f"torch {torch.__version__} sees no GPU; nothing was trained")
    if not (checked := WORK / "check.json").is_file():
        checked.write_text(json.dumps(check(parts, options), indent=2))
    shutil.copy(checked, out)
    print(checked.read_text())
    for part in parts:
        done, left = WORK / f"{part.name}.done", ends - time.monotonic()
        if not done.exists() and left > RESERVE:
            if train(part, [f"--minutes={part.minutes:g}", *options], seconds=left) == 0:
                done.touch()
            deliver(part, whole=done.exists())
        send(out)


def check(parts: Sequence[Part], options: Sequence[str]) -> dict[str, Any]:
    """Some steps of each part: whether they are finite, for a training stops where they are not, and how fast."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    found: dict[str, Any] = {"gpu": gpu, "torch": torch.__version__, "python": platform.python_version()}
    starts = {part.result: part.recipe.get("start") for part in parts}
    for part in parts:
        output = WORK / "runs" / f"check-{part.name}"
        start = starts.get(part.recipe.get("start"))  # its own is not trained yet
        words = [*FEW, f"--output={output}", *([f"--start={start}"] if start else []), *options]
        found[part.name] = {"exit code": train(part, words, seconds=120)}
        if (log := output / "log.jsonl").is_file() and (lines := log.read_text().splitlines()):
            found[part.name]["images_per_second"] = json.loads(lines[-1])["images_per_second"]
        shutil.rmtree(output, ignore_errors=True)
    return found


def train(part: Part, options: Sequence[str], *, seconds: float) -> int:
    """A training, or what is left of it, for so many seconds; returns its exit code, 130 where time was up."""
    path = os.pathsep.join([str(ROOT), str(WORK / "site")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    words = [sys.executable, "-m", "art_idguard.cli", *part.words(options)]
    process = subprocess.Popen(words, cwd=WORK, env=environment)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends behind the step in hand and saves what it has learnt
    code = process.wait()
    print(f"{part.name}: {time.monotonic() - began:.0f} s, exit code {code}")
    return code


def deliver(part: Part, *, whole: bool) -> None:
    """Put what a training has made into the outbox; its discriminator, to go on from, when it is whole."""
    if not (part.output / part.model).is_dir():
        return
    with tempfile.TemporaryDirectory() as place:
        made = Path(place, part.name)
        shutil.copytree(part.output / part.model, made / part.model)
        halve(made / part.model)
        for file in (part.output / "log.jsonl", *sorted(part.output.glob("samples/*"))[-1:]):
            shutil.copy(file, made)
        if whole and (discriminator := part.output / "discriminator.safetensors").is_file():
            (made / f"{discriminator.name}.int8").write_bytes(save(quantised(load_file(discriminator))))
        with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w") as tar:
            tar.add(made, part.name)
    split(packed.getvalue(), WORK / "outbox", part.name, FILE)


def halve(model: Path) -> None:
    """Give a model's folder its weights in half precision."""
    state = load_file(weights := model / "model.safetensors")
    save_file({name: v.half() if v.dtype == torch.float32 else v for name, v in state.items()}, weights)
    config = json.loads((model / "config.json").read_text())
    del config["sha256"]  # of other bytes
    (model / "config.json").write_text(json.dumps(config))


def send(out: Path) -> None:
    """Move to `out` what waits in the outbox, as far as one call may bring it back."""
    for path in sorted((WORK / "outbox").glob("*"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        sent = [file.stat().st_size for file in out.iterdir()]
        if len(sent) >= FILES or sum(sent) + path.stat().st_size > BACK:
            print(f"{path.name} and what follows wait for a further call of run")
            return
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        shutil.move(path, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="hub/on_gpu.sh run", description=run.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("minutes", type=float, nargs="?", default=CALLS[0])
    given, further = parser.parse_known_args()
    run(given.out, given.minutes, further)
