"""The protocol of the Proactive Defense Benchmark (Baek et al., ICML 2026): `evaluate --protocol icml2026`.

Read off the benchmark's released code (github.com/proactivedefensebenchmark), where a photo's labels are unknown and
the edit is blond hair. The bound is the paper's.

Deviates: BRISQUE is not measured, so that ROB and TE are means over the other measures; identity is compared on
aligned faces; the salt and the pepper of a probe, as its noise, are the same for all photos.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from art_idguard.baselines.base import Attack, Protection
from art_idguard.baselines.disrupting import white_box
from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.data.spec import DataSpec
from art_idguard.distortions import Operation, blur, jpeg_file, noise, salt_and_pepper
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.batches import measure_batches
from art_idguard.evaluation.checks import checked
from art_idguard.evaluation.config import EvaluationConfig
from art_idguard.evaluation.document import PAGE, write_html
from art_idguard.evaluation.leaderboard import MEASURES, Defence, Leaderboard, published
from art_idguard.evaluation.lpips import LPIPS
from art_idguard.evaluation.parts import Parts
from art_idguard.evaluation.statistics import environment_info
from art_idguard.faces.alignment import arcface_frame
from art_idguard.files.atomic import write_text
from art_idguard.files.digests import sha256
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import l2_image
from art_idguard.photos.effects import edit_named
from art_idguard.recognizers.base import Recognizer, cosine
from art_idguard.types import Frames, Images, float32

EPSILON, STEP_SIZE, STEPS, EDIT, FACES = 0.05, 0.01, 30, "Blond_Hair", 100
"""Of the white boxes; lengths are on the [-1, 1] scale."""

PROBES: Mapping[str, Operation] = {
    "blur1": lambda images: images,  # a kernel of one pixel
    "blur3": partial(blur, sigma=1.0, radius=1),
    "jpeg70": partial(jpeg_file, quality=70),
    "jpeg90": partial(jpeg_file, quality=90),
    "noise001": partial(noise, sigma=0.001, seed=0),
    "noise003": partial(noise, sigma=0.003, seed=0),
    "salt_pepper001": partial(salt_and_pepper, share=0.001, seed=0),
    "salt_pepper003": partial(salt_and_pepper, share=0.003, seed=0),
}
"""What a protected photo goes through, by the benchmark's names."""

TAKEN = {"protector", "manipulators", "recognizers", "data", "output", "limit", "refine", "refine_against"}
TAKEN |= {"batch_size", "seed", "size", "protocol", "lpips"}
"""The settings that the protocol leaves open."""


@float32()
def evaluate_icml2026(config: EvaluationConfig, *, verbose: bool = True) -> dict[str, Leaderboard]:
    """Measure protectors by the benchmark; write <output>/<NAME>-icml2026.{json,md} for each data set, and one page.

    A rerun goes on where an interrupted one stopped (<output>/<NAME>-icml2026.jsonl).

    Args:
        config: the settings, of which only `TAKEN` may be set. The last recogniser judges.
        verbose: show a progress bar.

    Raises:
        IDGuardError: unusable weights or data, a setting that the protocol fixes, or another epsilon.
    """
    _require_open(config)
    specs = [DataSpec.parse(text) for text in config.data]
    parts = Parts(config, verbose=verbose)
    if parts.guard.epsilon != EPSILON:
        raise IDGuardError(
            f"the protocol's bound is {EPSILON} on the [-1, 1] scale, and this protector's is {parts.guard.epsilon:g}; "
            "measure it without --protocol"
        )
    refined, about_refined = parts.refined()
    black = parts.own() | refined | {"±epsilon noise": parts.bounds()["±epsilon noise"]}
    white = {"PGD": white_box(epsilon=EPSILON, steps=STEPS, step_size=STEP_SIZE, seed=config.seed)}
    distance = None if config.lpips is None else LPIPS.from_checkpoint(config.lpips).to(parts.device)
    judge = next(reversed(parts.recognizers.values()))
    run = _Protocol(black, white, parts.targets, judge, distance)
    weights = parts.weights if config.lpips is None else {**parts.weights, "lpips": sha256(Path(config.lpips))}
    reports = {}
    for spec in specs:
        faces = parts.read(spec, config.limit or FACES)
        stem = parts.output / f"{spec.name}-icml2026"
        about = {"data": spec.public(), "weights": weights, "seed": config.seed, **about_refined}
        records = measure_batches(
            lambda batch, first: {"values": run.measure(batch).tolist()},
            faces,
            batch_size=config.batch_size,
            setting={**about, **run.setting()},
            resume_file=stem.with_name(f"{stem.name}.jsonl"),
            verbose=verbose,
        )
        reports[spec.name] = run.report(records, faces, about)
        reports[spec.name].to_json(stem.with_name(f"{stem.name}.json"))
        write_text(stem.with_name(f"{stem.name}.md"), reports[spec.name].document().markdown())
    write_html(parts.output / PAGE, [report.document() for report in reports.values()])
    return reports


def _require_open(config: EvaluationConfig) -> None:
    fixed = [field for field in fields(config) if field.name not in TAKEN and field.default is not MISSING]
    if given := [field.name for field in fixed if getattr(config, field.name) != field.default]:
        raise IDGuardError(
            f"the protocol icml2026 leaves no choice of {', '.join(given)}; leave out the option, or the protocol"
        )


@dataclass(frozen=True)
class _Protocol:
    """The defences, the generators, and who compares their pictures."""

    black: Mapping[str, Protection]
    white: Mapping[str, Attack]
    generators: Mapping[str, Manipulator]
    judge: Recognizer
    lpips: LPIPS | None

    @property
    def defences(self) -> tuple[Defence, ...]:
        aimed = [Defence(method, source) for method in self.white for source in self.generators]
        return (*map(Defence, self.black), *aimed)

    def setting(self) -> dict[str, Any]:
        return {
            "protocol": "icml2026",
            "defences": self.defences,
            "generators": tuple(self.generators),
            "probes": tuple(PROBES),
            "judge": self.judge.name,
        }

    def measure(self, batch: FaceBatch) -> Float[Tensor, "M S D K B"]:
        x = batch.images
        protected = [checked(d.method, self._protect(d, batch).detach(), x, EPSILON) for d in self.defences]
        shape = (len(MEASURES), 1 + len(PROBES), len(protected), len(self.generators), len(x))
        values = x.new_full(shape, torch.nan)
        frame = arcface_frame(batch.landmarks, (x.shape[-2], x.shape[-1]))
        for k, (name, generator) in enumerate(self.generators.items()):
            pair = _Comparison(generator, x, frame, self.judge, self.lpips)
            for d, (defence, images) in enumerate(zip(self.defences, protected, strict=True)):
                values[:, 0, d, k] = pair.measure(images)
                if defence.source in (None, name):
                    probed = [pair.measure(probe(images)) for probe in PROBES.values()]
                    values[:, 1:, d, k] = torch.stack(probed, dim=1)
        return values

    def _protect(self, defence: Defence, batch: FaceBatch) -> Images:
        if defence.source is None:
            return self.black[defence.method](batch)
        generator = self.generators[defence.source]
        return self.white[defence.method](generator, edit_named(EDIT, generator, batch.images), batch)

    def report(self, records: Sequence[Mapping[str, Any]], faces: Faces, about: Mapping[str, Any]) -> Leaderboard:
        values = torch.cat([torch.tensor(record["values"]) for record in records], dim=-1)
        short = {name: about["weights"][name][:8] for name in self.generators}
        place = f"{faces.size} px, {about['data']['name']}, {len(faces)} faces"
        first = next(iter(faces.batches(1))).images
        edits = {name: edit_named(EDIT, generator, first).name for name, generator in self.generators.items()}
        of = {name: f"weights {short[name]}, {edits[name]}, {place}" for name in self.generators}
        text = (
            f"Bound {EPSILON} on the [-1, 1] scale; PGD with {STEPS} steps of {STEP_SIZE} on the picture's mean "
            "squared error. MSE and LPIPS: of the photo's and the protected photo's forgeries. CIDR: by "
            f"{self.judge.name}, what the protection adds to the identity's distance from the photo, as a share. ROB: "
            "what blur, JPEG, noise and salt and pepper leave of these. TE: what is left on other generators, of an "
            "attack on this one. Means ± half the bootstrap 95 % interval over faces. Measured and published rows "
            "differ in weights, size and data, as the last column says; BRISQUE is not measured. "
            f"Published: {published()['source']}."
        )
        measured = {"epsilon": EPSILON, "n": len(faces), "size": faces.size, "of": of, "about": text}
        metadata = {**about, **self.setting(), **measured, **environment_info(faces.device)}
        return Leaderboard(self.defences, tuple(self.generators), values, metadata)


class _Comparison:
    """A generator's forgeries of photos, and how far those of other versions are from them."""

    @torch.no_grad()
    def __init__(
        self, generator: Manipulator, x: Images, frame: Frames, judge: Recognizer, lpips: LPIPS | None
    ) -> None:
        self.generator, self.frame, self.judge, self.lpips = generator, frame, judge, lpips
        self.edit = edit_named(EDIT, generator, x)
        self.identity = judge(x, frame)
        self.forged = generator(x, self.edit).output
        self.drift = self._distance(self.forged)
        self.features = None if lpips is None else lpips.features(self.forged)

    def _distance(self, forged: Images) -> Float[Tensor, " B"]:
        return 1 - cosine(self.identity, self.judge(forged, self.frame))

    @torch.no_grad()
    def measure(self, protected: Images) -> Float[Tensor, "M B"]:
        """`MEASURES` of each face; NaN for LPIPS where there is none."""
        forged = self.generator(protected, self.edit).output
        mse = l2_image(self.forged, forged)
        lpips = torch.full_like(mse, torch.nan)
        if self.lpips is not None and self.features is not None:
            lpips = self.lpips.distance(self.features, self.lpips.features(forged))
        return torch.stack([mse, lpips, cidr(self.drift, self._distance(forged))])


def cidr(clean: Float[Tensor, " B"], protected: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Calibrated identity disruption rate, max(0, 1 - d / d'), 0 where d' is 0.

    Args:
        clean: d, of the identities of a photo and its forgery: 1 minus their cosine.
        protected: d', of the photo and the protected photo's forgery.
    """
    return torch.where(protected > 0, 1 - clean / protected, 0).clamp(min=0)
