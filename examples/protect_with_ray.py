"""Protect a large folder, WebDataset or Parquet of photos with Ray Data, on one machine or a cluster.

    pip install 'art-idguard[ray]'
    python examples/protect_with_ray.py photos/ --output protected/ --workers 4
    python examples/protect_with_ray.py 'shards/*.tar' --output protected/ --address auto   # a running cluster
    python examples/protect_with_ray.py images.parquet --column image --output protected/

Writes <output>/<name>.protected.png for each photo and a record of each, also of those that failed, as CSV under
<output>/records/. A second call skips the photos whose result is there and tries the others again. On a
cluster every machine has to see input and output at the same path. Parquet has no file names, so there a photo's
name is the SHA-256 of its content.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from art_idguard.errors import IDGuardError
from art_idguard.faces import FaceDetector
from art_idguard.files.formats import SUFFIXES
from art_idguard.perturbation import Protector
from art_idguard.photos.finding import RESULTS, find_photos
from art_idguard.photos.job import protect_file

Row = dict[str, Any]


class ProtectActor:
    """A worker: has the models in memory and protects one batch of photos after the other."""

    def __init__(self, output: Path, model: str | None, whole: bool) -> None:
        self.output, self.whole = output, whole
        self.protector = Protector.from_pretrained(model).requires_grad_(False)
        self.detector = FaceDetector()

    def __call__(self, batch: dict[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Name and content of photos -> name and result of each."""
        names = [str(name) for name in batch["name"]]
        return {"name": names, "result": list(map(self.protect, names, batch["content"]))}

    def protect(self, name: str, content: bytes | None) -> str:
        """Write the protected photo, unless it is there; one that cannot be protected does not stop the others."""
        target = target_of(self.output, name)
        if target.exists():
            return "there already"
        with TemporaryDirectory() as folder:
            path = Path(folder) / "photo"
            try:
                path.write_bytes(content or b"")
                done = protect_file(path, target, self.protector, self.detector, whole=self.whole)
                return f"protected, {len(done.frames)} face(s), {done.levels} of 255 levels"
            except (IDGuardError, OSError) as error:
                return f"failed: {str(error).replace(str(path), name)}"


def target_of(output: Path, name: str) -> Path:
    """The suffix stays, so that a.jpg and a.png have different results; a name cannot lead out of `output`."""
    return output / f"{name.replace('..', '_').lstrip('/')}{RESULTS['png']}"


def read(source: str, *, output: Path, column: str) -> "ray.data.Dataset | None":
    """Rows of name and content; None where a folder has nothing left to do."""
    if source.endswith(".parquet"):
        return ray.data.read_parquet(glob(source), columns=[column]).map(from_parquet, fn_args=[column])
    if source.endswith(".tar"):
        tars = ray.data.read_webdataset(glob(source), decoder=None, suffixes=is_picture, include_paths=True)
        return tars.map(from_webdataset)
    root = Path(source).resolve()
    found = find_photos([str(root)])
    for error in found.errors:
        raise error
    todo = [p for p in found.photos if not target_of(output, str(p.relative_to(root))).exists()]
    if not todo:
        return None
    photos = ray.data.read_binary_files([str(path) for path in todo], include_paths=True)
    return photos.map(from_file, fn_args=[root])


def from_file(row: Row, root: Path) -> Row:
    return {"name": str(Path(row["path"]).relative_to(root)), "content": row["bytes"]}


def is_picture(suffix: str) -> bool:
    return f".{suffix.lower()}" in SUFFIXES


def from_webdataset(row: Row) -> Row:
    suffix, content = next(((k, v) for k, v in row.items() if is_picture(k) and isinstance(v, bytes)), ("", b""))
    return {"name": f"{Path(row['path']).stem}/{row['__key__']}.{suffix}", "content": content}


def from_parquet(row: Row, column: str) -> Row:
    """The column holds the file's bytes, or, as in data sets on the Hub, a struct with `bytes`."""
    content = row[column]["bytes"] if isinstance(row[column], dict) else row[column]
    return {"name": hashlib.sha256(content or b"").hexdigest(), "content": content}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 if a photo could not be protected."""
    parser = argparse.ArgumentParser(description="Protect many photos with Ray Data.")
    parser.add_argument("source", help="folder, or (quoted glob of) .tar or .parquet")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--column", default="image", help="of a Parquet file")
    parser.add_argument("--model", help="protector: folder or Hub id (default: the one that ships)")
    parser.add_argument("--whole", action="store_true", help="protect a picture without a face as a whole")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=1, help="of each worker")
    parser.add_argument("--batch-size", type=int, default=4, help="photos that a worker takes at a time")
    parser.add_argument("--address", help="of a running Ray cluster (auto: this machine's); default: start one here")
    options = parser.parse_args(argv)

    output = options.output.resolve()
    # One more core on paper: reading and writing need little, but without any Ray would never schedule them.
    cores = None if options.address else options.workers * options.cpus + 1
    if not ray.is_initialized():
        ray.init(options.address, num_cpus=cores, include_dashboard=False, log_to_driver=False)
    photos = read(options.source, output=output, column=options.column)
    if photos is None:
        print("nothing left to do")
        return 0
    records = output / "records" / time.strftime("%Y-%m-%dT%H-%M-%S")
    photos.map_batches(
        ProtectActor,
        fn_constructor_args=[output, options.model, options.whole],
        batch_size=options.batch_size,
        concurrency=options.workers,
        num_cpus=options.cpus,
    ).write_csv(str(records))
    results = [str(row["result"]).split(",")[0] for row in ray.data.read_csv(str(records)).iter_rows()]
    failed = sum(result.startswith("failed") for result in results)
    print(f"{len(results) - failed} photos are protected, {failed} could not be; see {records}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
