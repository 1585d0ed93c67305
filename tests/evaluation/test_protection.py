import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional as F

from art_idguard.baselines import criterion
from art_idguard.baselines.base import face_generator, universal
from art_idguard.baselines.cmua import cmua
from art_idguard.baselines.criterion import criterion_white_box
from art_idguard.baselines.disrupting import disrupting, white_box
from art_idguard.baselines.idguard import id_guard, p_pert
from art_idguard.baselines.noise import brightness, sign_noise, uniform_noise
from art_idguard.cli import main
from art_idguard.data.faces import Faces
from art_idguard.data.spec import DataSpec
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.measures import FORGERIES, PHOTOS
from art_idguard.evaluation.pictures import save_pictures
from art_idguard.evaluation.protection import evaluate
from art_idguard.evaluation.report import CEILING, REFERENCES, WHITE_BOX, Report
from art_idguard.evaluation.statistics import estimate, wilson_interval
from art_idguard.evaluation.tables import markdown
from art_idguard.faces.alignment import arcface_frame
from art_idguard.files.grid import CAPTION, GAP
from art_idguard.files.lock import exclusive
from art_idguard.images import project
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import colour_difference, identity_similarity, l2_face, low_frequency_share
from art_idguard.perturbation import Protector
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import face_mask
from art_idguard.types import ATTRIBUTES, Edit, Manipulation
from tests.toys import tiny_manipulators

EPSILON = 0.05
SIZE = 32
POINTS = torch.tensor([[10.0, 12.0], [21.0, 12.0], [16.0, 18.0], [11.0, 23.0], [20.0, 23.0]])


class Toy(Manipulator):
    """One convolution of the face plus the edit's number; counts the faces it forges."""

    name = "toy"

    def __init__(self, *, seed=0):
        super().__init__()
        self.seed = seed
        weight = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.seen = 0

    def edits(self, attributes):
        n = torch.ones(len(attributes), 1)
        return tuple(Edit(name, e * n) for e, name in enumerate(ATTRIBUTES))

    def forward(self, x, edit):
        self.seen += len(x)
        shift = edit.condition[..., None, None].to(x)
        features = F.conv2d(x, self.weight, padding=1)
        return Manipulation(torch.tanh(features + 0.1 * shift), features)


class Eye(Recognizer):
    """Mean colours of a coarse grid."""

    name = "eye"
    size = 16

    def __init__(self, *, cells=4):
        super().__init__()
        self.cells = cells

    def backbone(self, faces):
        return F.adaptive_avg_pool2d(faces, self.cells)

    def head(self, features):
        return features.flatten(1)


def toys(count=2):
    return {f"toy{k}": Toy(seed=k) for k in range(count)}


def eyes():
    return {"eye": Eye(), "other": Eye(cells=2)}


@pytest.fixture
def faces():
    images = torch.randint(20, 235, (7, 3, SIZE, SIZE), dtype=torch.uint8)
    return Faces(tuple("abcdefg"), images, torch.zeros(7, 5), POINTS.repeat(7, 1, 1))


def batch_of(faces):
    return faces.batch(slice(None))


def protections():
    return {"Noise": uniform_noise(epsilon=EPSILON), "Shift": shift}


def shift_for(epsilon):
    return lambda manipulator, edit, batch: project(batch.images + epsilon, batch.images, epsilon)


def references(steps):
    attacks = white_box(epsilon=EPSILON, steps=steps), criterion_white_box([Eye()], epsilon=EPSILON, steps=steps)
    return dict(zip(REFERENCES, attacks, strict=True))


def shift(batch):
    return project(batch.images + 0.03, batch.images, EPSILON)


def measure(faces, given=None, **options):
    options = {"epsilon": EPSILON, "batch_size": 3} | options
    return evaluate(given or protections(), toys(), faces, eyes(), **options)


def same(a, b):
    assert a.protections == b.protections
    for ours, theirs in ((a.values, b.values), (a.photos, b.photos)):
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0, equal_nan=True)
    assert (a.edits, a.warnings) == (b.edits, b.warnings)


def test_values_are_those_of_the_definitions(faces):
    report = measure(faces)
    batch, toy, eye = batch_of(faces), Toy(seed=1), Eye()
    edit = toy.edits(batch.attributes)[2]
    clean, other = toy(batch.images, edit).output, toy(shift(batch), edit).output

    mask = face_mask(batch.landmarks, (SIZE, SIZE)).double()
    square = (clean - other).double() ** 2 * mask
    by_hand = square.sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))
    found = report.values["l2_face"][1, 1, :, 2]
    torch.testing.assert_close(found.double(), by_hand, rtol=1e-5, atol=0)
    delta, change = ((t * mask).flatten(1).double() for t in (shift(batch) - batch.images, other - clean))
    explained = ((delta * change).sum(1) / (delta * delta).sum(1))[:, None] * delta
    by_hand = (change - explained).square().sum(1) / (3 * mask.sum(dim=(1, 2, 3)))
    torch.testing.assert_close(report.values["l2_residual"][1, 1, :, 2].double(), by_hand, rtol=1e-4, atol=0)
    by_hand = (clean - other).pow(2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(report.values["l2_image"][1, 1, :, 2], by_hand)

    frame = arcface_frame(batch.landmarks, (SIZE, SIZE))
    a, b = eye(clean, frame), eye(other, frame)
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    torch.testing.assert_close(report.values["similarity.eye"][1, 1, :, 2], cosine)
    largest = (shift(batch) - batch.images).abs().flatten(1).max(dim=1).values
    torch.testing.assert_close(report.photos["max_delta"][1], largest)
    colour = colour_difference(shift(batch), batch.images, mask)
    for name, expected in zip(("ciede_mean", "ciede_p95", "ciede_share"), colour, strict=True):
        torch.testing.assert_close(report.photos[name][1], expected)
    torch.testing.assert_close(report.photos["low_frequency"][1], low_frequency_share(shift(batch) - batch.images))


def test_a_manipulator_that_passes_the_perturbation_on_leaves_no_residual(faces):
    class Linear(Toy):
        def forward(self, x, edit):
            return Manipulation(0.4 * x, x)

    report = evaluate(protections(), {"linear": Linear()}, faces, eyes(), epsilon=EPSILON)
    assert report.mean("l2_face")("Shift").mean > 1e-4
    assert report.worst("l2_residual")("Shift").mean < 1e-9
    assert report.worst("l2_residual")("Noise").mean < 1e-9


class OneEdit(Toy):
    """Of one edit, where others have five."""

    name = "one"

    def edits(self, attributes):
        return super().edits(attributes)[:1]


@pytest.mark.parametrize("mode", ["all", "cycle"])
def test_manipulators_may_have_different_numbers_of_edits_and_count_alike(mode, faces, tmp_path):
    def of(manipulators, **options):
        return evaluate(protections(), manipulators, faces, eyes(), epsilon=EPSILON, edits=mode, **options)

    five, one = {"five": Toy(seed=0)}, {"one": OneEdit(seed=1)}
    both = of(five | one, resume_file=tmp_path / "both.jsonl")
    assert not [warning for warning in both.warnings if "finite" in warning]
    assert [len(both.edits[name]) for name in ("five", "one")] == [5, 1]
    alone = [of(manipulators) for manipulators in (five, one)]
    for measure in ("l2_face", "similarity.eye"):
        for protection in both.protections:
            means = [report.mean(measure)(protection).mean for report in alone]
            assert both.mean(measure)(protection).mean == pytest.approx(sum(means) / 2, rel=1e-5)
            assert both.cell(measure, "one")(protection).mean == pytest.approx(means[1], rel=1e-5)
    both.to_json(tmp_path / "both.json")
    assert "n/a" not in markdown(both)


def test_cycle_measures_face_i_under_edit_i_and_agrees_with_all(faces):
    everything, cycle = measure(faces), measure(faces, edits="cycle")
    turn = torch.arange(7)[:, None] % 5 == torch.arange(5)
    for measured, value in cycle.values.items():
        assert torch.equal(value.isfinite(), turn.expand_as(value))
        expected = everything.values[measured].masked_fill(~turn, math.nan)
        torch.testing.assert_close(value, expected, equal_nan=True)


def test_clean_faces_are_forged_once_and_protections_run_once_a_batch(faces):
    calls = []

    def counted(batch):
        calls.append(len(batch.images))
        return shift(batch)

    targets = toys()
    evaluate(
        {"a": counted, "b": shift},
        targets,
        faces,
        eyes(),
        epsilon=EPSILON,
        batch_size=3,
        edits="cycle",
    )
    assert calls == [3, 3, 1]
    assert [t.seen for t in targets.values()] == [3 * 7, 3 * 7]  # clean and two protections


@pytest.mark.parametrize("cut", [0, 1, 40, 10_000])
def test_a_killed_evaluation_resumes_to_the_identical_report(faces, tmp_path, cut):
    file = tmp_path / "values.jsonl"
    options = {"references": references(steps=2), "reference_faces": 4, "metadata": {"seed": 0}}
    unbroken = measure(faces, resume_file=file, **options)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - cut])
    same(measure(faces, resume_file=file, **options), unbroken)
    assert file.read_bytes() == whole
    same(measure(faces, **options), unbroken)


def test_a_finished_evaluation_measures_nothing_again(faces, tmp_path):
    def never(batch):
        raise AssertionError("measured again")

    file = tmp_path / "values.jsonl"
    measure(faces, {"x": shift}, resume_file=file)
    measure(faces, {"x": never}, resume_file=file)


def test_a_recogniser_of_nan_is_an_error(faces):
    """Not a table of dashes."""
    judges = eyes()
    judges["other"].head = lambda features: features.flatten(1) * math.nan
    with pytest.raises(IDGuardError, match="other returns values that are not finite for clean faces; check its weigh"):
        evaluate({"Shift": shift}, toys(), faces, judges, epsilon=EPSILON)


def test_two_evaluations_into_one_file_would_count_faces_twice(faces, tmp_path):
    file = tmp_path / "values.jsonl"
    with (
        exclusive(tmp_path / ".values.jsonl.lock", "evaluation"),
        pytest.raises(IDGuardError, match=r"another evaluation is at work in .*; choose another output folder"),
    ):
        measure(faces, resume_file=file)
    assert not file.exists()
    measure(faces, resume_file=file)


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("batch_size", {"batch_size": 2}),
        ("edits", {"edits": "cycle"}),
        ("epsilon", {"epsilon": 0.1}),
        ("metadata", {"metadata": {"weights": "other"}}),
        ("protections", {"given": {"x": shift}}),
    ],
)
def test_a_resume_file_of_another_setting_is_refused(faces, tmp_path, key, option):
    file = tmp_path / "values.jsonl"
    measure(faces, resume_file=file)
    with pytest.raises(IDGuardError, match=f"another evaluation: {key}"):
        measure(faces, resume_file=file, **option)


def test_a_resume_file_with_fewer_measures_is_refused(faces, tmp_path):
    file = tmp_path / "values.jsonl"
    measure(faces, resume_file=file)
    file.write_text(file.read_text().replace('"l2_residual", ', "", 1))
    with pytest.raises(IDGuardError, match="another evaluation: measures"):
        measure(faces, resume_file=file)


def test_a_damaged_resume_file_is_refused(faces, tmp_path):
    file = tmp_path / "values.jsonl"
    measure(faces, resume_file=file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], "{nonsense\n", *lines[2:]]))
    with pytest.raises(IDGuardError, match="damaged"):
        measure(faces, resume_file=file)


@pytest.mark.parametrize(
    ("protect", "message"),
    [
        (lambda b: b.images + 0.06, "more than epsilon"),
        (lambda b: b.images + 0.049, r"expected values in \[-1, 1\]"),
        (lambda b: b.images * math.nan, "not finite"),
        (lambda b: b.images[..., :16], "shape"),
    ],
    ids=["ball", "range", "nan", "shape"],
)
def test_what_is_no_protection_is_an_error(faces, protect, message):
    faces.images[0, 0, 0, 0] = 255
    with pytest.raises(IDGuardError, match=f"Bad .*{message}"):
        measure(faces, {"Bad": protect})


def test_a_null_protection_and_a_single_recogniser_are_warned_of(faces):
    report = evaluate({"Null": lambda b: b.images}, toys(), faces, {"eye": Eye()}, epsilon=EPSILON)
    assert "Null returned 7 of 7 photos unchanged" in report.warnings
    assert any("training did not use" in w for w in report.warnings)
    assert report.worst("l2_face")("Null").mean == 0
    assert report.mean("dsr.eye")("Null").mean == 0
    assert "Warning: Null returned" in markdown(report)
    assert measure(faces).warnings == ()


def test_forgeries_that_are_not_finite_are_left_out_and_told(faces):
    class Broken(Toy):
        def forward(self, x, edit):
            forged = super().forward(x, edit)
            bright = x.mean(dim=(1, 2, 3), keepdim=True) > self.level
            return forged._replace(output=forged.output.masked_fill(bright, math.nan))

    broken = Broken()
    broken.level = batch_of(faces).images.mean(dim=(1, 2, 3)).topk(2).values.mean().item()
    report = evaluate({"Noise": uniform_noise(epsilon=1e-6)}, {"b": broken}, faces, eyes(), epsilon=1e-6)
    assert any(w.startswith("5 of 35 values of Noise against b") for w in report.warnings)
    assert math.isfinite(report.mean("l2_face")("Noise").mean)


def table(report, title):
    """Rows of the Markdown table that follows a title."""
    text = markdown(report).split(f"**{title}")[1].split("\n\n")[1]
    head, rule, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    assert all(len(row) == len(head) for row in (rule, *rows))
    return head, {row[0]: row[1:] for row in rows}


def made_report(l2, similarity):
    """A report of given values (P, K, N), one edit."""
    l2, similarity = (torch.tensor(v)[..., None] for v in (l2, similarity))
    protections = (*("A", "B", "C")[: len(l2) - 2], *REFERENCES)
    photos = {m.name: torch.ones(len(l2), l2.shape[2]) for m in PHOTOS}
    values = {"l2_face": l2, "l2_residual": l2 / 2, "l2_image": l2, "similarity.eye": similarity}
    return Report(protections, ("s", "r"), {"s": ("e",), "r": ("e",)}, ("eye",), values, photos, {"seed": 0})


@pytest.fixture
def made():
    l2 = [[[0.1, 0.3], [0.04, 0.06]], [[0.2, 0.2], [0.2, 0.0]]]
    l2 += [[[0.9, 0.9], [0.9, math.nan]], [[0.4, 0.4], [0.1, math.nan]]]  # the whole picture's counts for no share
    similarity = [[[0.1, 0.5], [0.2, 0.2]], [[0.3, 0.3], [0.6, 0.6]]]
    similarity += [[[0.9, 0.9], [0.9, math.nan]], [[0.0, 0.0], [0.2, math.nan]]]
    return made_report(l2, similarity)


def test_aggregates_and_shares_by_hand(made):
    assert made.cell("l2_face", "s")("A").mean == pytest.approx(0.2)
    assert made.cell("dsr.eye", "s")("A").mean == 0.5  # the second face is still recognised
    assert made.cell("dsr.eye", "r")("A").mean == 0.5  # the first face is hardly changed
    assert made.mean("l2_face")("A").mean == pytest.approx((0.1 + 0.3 + 0.04 + 0.06) / 4)
    worst = made.worst("similarity.eye")("B")
    assert (worst.mean, worst.manipulator) == (pytest.approx(0.6), "r")
    assert made.worst("l2_face")("A").manipulator == "r"
    # Shares on the faces of the references alone: both against s, the first against r.
    assert made.cell("l2_face", "s")("A").share == pytest.approx(0.2 / 0.4)
    assert made.cell("l2_face", "r")("A").share == pytest.approx(0.04 / 0.1)
    assert made.cell("similarity.eye", "r")("B").share == pytest.approx((1 - 0.6) / (1 - 0.2))
    assert made.mean("l2_face")("A").share == pytest.approx((0.5 + 0.4) / 2)
    assert made.worst("l2_face")("B").share == pytest.approx(0.5)
    assert made.cell("l2_face", "r")(CEILING).share == 1
    assert made.cell("l2_face", "r")(WHITE_BOX).share == pytest.approx(9)


@pytest.mark.parametrize("order", [1, -1])
def test_a_ceiling_that_is_nothing_on_one_model_spoils_no_share(order):
    effect = {"s": (0.1, 0.4), "r": (0.1, 0.0)}  # of A and of the ceiling: nothing was reached against r
    names = tuple(effect)[::order]
    values = torch.tensor([[[[effect[k][p]]] * 2 for k in names] for p in (0, 1)])
    report = Report(
        ("A", CEILING),
        names,
        dict.fromkeys(names, ("Male",)),
        ("eye",),
        {measure.name: values for measure in FORGERIES} | {"similarity.eye": values},
        {measure.name: torch.zeros(2, 2) for measure in PHOTOS},
        {},
    )
    assert report.mean("l2_face")("A").share == report.worst("l2_face")("A").share == pytest.approx(0.25)


def test_markdown_has_the_columns_of_table_1_and_marks_the_best(made):
    head, rows = table(made, "ID sim. by eye")
    columns = [f"{k} {m}" for k in ("s", "r") for m in ("L2_face↑", "residual L2_face↑", "ID sim.↓", "DSR↑")]
    assert head == ["Method", *columns]
    assert list(rows) == ["A", "B", *REFERENCES]
    similarity = head.index("r ID sim.↓") - 1
    assert rows["A"][similarity].startswith("**0.200**")
    assert rows["B"][similarity].startswith("<u>0.600</u>")
    equal = head.index("s L2_face↑") - 1
    assert rows["A"][equal].startswith("0.2000 ")
    assert rows["B"][equal].startswith("0.2000 ")
    assert not any("*" in cell or "<u>" in cell for name in REFERENCES for cell in rows[name])
    for name in "AB":
        assert all(("[" if "DSR" in title else "±") in cell for title, cell in zip(head[1:], rows[name], strict=True))
    assert rows["A"][head.index("s DSR↑") - 1] == "<u>0.500</u> [0.095, 0.905]"
    assert "±" not in rows[CEILING][similarity]  # one face
    assert "The white box rows are of 2 faces." in markdown(made)


def test_misdirected_is_below_the_threshold_of_each_false_accept_rate(made):
    made = replace(made, metadata={"thresholds": {"eye": {"1%": 0.3, "0.1%": 0.55}}})
    names = list(made.measures)[-2:]
    assert names == ["misdirected@1%.eye", "misdirected@0.1%.eye"]
    strict, lenient = (made.cells(name)[..., 0] for name in names)
    assert strict[0].tolist() == [[1, 0], [1, 1]]
    assert strict[1].tolist() == [[0, 0], [0, 0]]  # 0.3 is not below 0.3
    assert lenient[1].tolist() == [[1, 1], [0, 0]]
    assert lenient[2, 1].isnan().tolist() == [False, True]
    cell = made.cell("misdirected@1%.eye", "s")("A")
    assert cell[:3] == pytest.approx((0.5, *wilson_interval(0.5, 2)))
    worst = made.worst("misdirected@0.1%.eye")("B")
    assert (worst.mean, worst.manipulator) == (0, "r")
    head, rows = table(made, "Misdirected")
    assert head[1:] == [f"{kind}, eye, FAR {rate}↑" for rate in ("1%", "0.1%") for kind in ("mean", "worst")]
    assert rows["A"][0].startswith("**0.750** [")
    assert "eye 0.300 (1%), 0.550 (0.1%)" in markdown(made)
    assert not any("misdirected" in title for title in table(made, "Over manipulators")[0])


def test_without_thresholds_nothing_is_misdirected(made):
    assert not any("misdirected" in m for m in made.measures)
    assert "**Misdirected**" not in markdown(made)


def test_markdown_says_what_the_references_knew(made):
    about = {"references": {"steps": 40, "recognizers": ["sface", "eye"]}}
    assert ", 40 steps each; the criterion's knows sface and eye." in markdown(replace(made, metadata=about))
    about["references"]["recognizers"] = ["sface"]
    assert "the criterion's knows sface, not eye." in markdown(replace(made, metadata=about))


def test_markdown_has_every_recogniser_the_shares_and_the_photos(faces):
    report = measure(faces, edits="cycle", references=references(steps=3), reference_faces=5)
    head, rows = table(report, "ID sim. by other")
    assert head == ["Method", *(f"toy{k} {m}" for k in (0, 1) for m in ("ID sim.↓", "DSR↑"))]
    head, rows = table(report, "Share of the ceiling, White box (criterion)")
    assert all(cell in ("1.000", "n/a") for cell in rows[CEILING])
    head, rows = table(report, "Protected photos")
    colour = ["colour, mean↓", "colour, 95th percentile↓", "share of face over 2.3↓"]
    assert head[1:] == ["PSNR (dB)↑", "SSIM↑", *colour, "tint↓", "max abs. perturbation"]
    assert rows["Noise"][head.index("tint↓") - 1].startswith("**")
    assert all(rows[name] == ["n/a"] * 7 for name in REFERENCES)
    head, rows = table(report, "Over manipulators")
    assert {"mean residual L2_face↑", "worst residual L2_face↑"} < set(head)


def test_json_is_strict_and_complete(faces, tmp_path):
    report = measure(faces, metadata={"seed": 3}, references=references(steps=1))
    report.to_json(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    metadata = content["metadata"]
    assert (metadata["seed"], metadata["n"], metadata["epsilon"]) == (3, 7, EPSILON)
    assert metadata["range"] == "[-1, 1]"
    assert {"hardware", "date"} <= metadata.keys()
    noise = content["summary"]["Noise"]
    assert set(noise["toy0"]) == {*report.values, "dsr.eye", "dsr.other"}
    cell = noise["toy1"]["l2_face"]
    assert cell["low"] <= cell["mean"] <= cell["high"]
    edits = [noise["edits"]["toy1"][name]["l2_face"] for name in ATTRIBUTES]
    assert np.mean(edits) == pytest.approx(cell["mean"], rel=1e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_estimate_resamples_faces_not_edits():
    # Five equal edits of a face tell nothing more than one.
    values = torch.rand(30, 1)
    assert estimate(values.expand(30, 5)) == pytest.approx((*estimate(values)[:3], None, None), nan_ok=True)


def test_a_share_that_is_zero_has_an_interval_over_faces():
    zero = estimate(torch.zeros(20, 5), share=True)
    assert zero[:2] == (0, 0)
    assert zero.high == pytest.approx(0.1611, abs=1e-4)  # of 20 faces, not of 100 edits
    assert zero.text(3, bounds=True) == "0.000 [0.000, 0.161]"


def test_picture_names_a_row_for_each_manipulator_and_its_columns(faces, tmp_path, monkeypatch):
    written = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *a, **o: written.append(a[2]) or draw(*a, **o))
    save_pictures(tmp_path / "grid.png", protections(), toys(3), faces)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width == 5 * (SIZE + GAP) - GAP
        above = picture.height - (3 * (SIZE + CAPTION + GAP) - GAP)
    assert above > 0
    assert above % CAPTION == 0
    columns, rows = ["".join(name.split()) for name in written[:-3]], written[-3:]
    assert columns == ["photo", "forged", "forgedunderNoise", "forgedunderShift", "perturbationofNoisex10"]
    assert [row.split(", ")[0] for row in rows] == list(toys(3))


# Baselines


def distance(toy, x, clean, edit):
    return F.mse_loss(toy(x, edit).output, toy(clean, edit).output).item()


def all_baselines(faces):
    targets = toys()
    protector = Protector(generator="resnet", generator_config={"channels": 8}, size=SIZE)
    return {
        "noise": uniform_noise(epsilon=EPSILON),
        "signs": sign_noise(epsilon=EPSILON),
        "brightness": brightness(epsilon=EPSILON),
        "disrupting": disrupting(targets["toy0"], epsilon=EPSILON, steps=5),
        "cmua": universal(cmua(list(targets.values()), faces, epsilon=EPSILON, steps=5), EPSILON),
        "id-guard": id_guard(protector),
        "p-pert": p_pert(protector),
    }


def test_baselines_stay_in_the_ball_and_repeat_themselves(faces):
    batch = batch_of(faces)
    for name, protect in all_baselines(faces).items():
        protected = protect(batch)
        assert (protected - batch.images).abs().max() <= EPSILON + 1e-6, name
        assert protected.abs().max() <= 1, name
        assert torch.equal(protect(batch), protected), name
        assert not protected.requires_grad, name


def test_noise_differs_from_face_to_face_and_by_seed(faces):
    batch = batch_of(faces)
    first, second = (uniform_noise(epsilon=EPSILON, seed=s)(batch) - batch.images for s in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert first.abs().mean().item() == pytest.approx(EPSILON / 2, rel=0.02)


def test_sign_noise_is_of_full_strength_without_a_tint_and_brightness_is_a_tint(faces):
    faces.images[0, 0, 0, 0], faces.images[1, 0, 0, 0] = 255, 0
    batch = batch_of(faces)
    signs, others, bright = (
        protect(batch) - batch.images
        for protect in (sign_noise(epsilon=EPSILON), sign_noise(epsilon=EPSILON, seed=1), brightness(epsilon=EPSILON))
    )
    clamped = batch.images.abs() > 1 - EPSILON
    assert bright[0, 0, 0, 0] == 0
    assert bright[1, 0, 0, 0] == pytest.approx(EPSILON)
    assert torch.allclose(bright[~clamped], torch.tensor(EPSILON), atol=1e-6)
    assert torch.allclose(signs.abs()[~clamped], torch.tensor(EPSILON), atol=1e-6)
    assert signs.sign().mean().abs() < 0.02
    assert not torch.equal(signs, others)
    assert not torch.equal(signs[2], signs[3])
    assert low_frequency_share(bright).min() > 0.99
    assert low_frequency_share(signs).max() < 0.03


def test_white_box_beats_disrupting_beats_cmua_beats_noise_on_their_own_model(faces):
    batch, toy = batch_of(faces), toys(1)["toy0"]
    x, edit = batch.images, toy.edits(batch.attributes)[3]
    reached = [
        distance(toy, white_box(epsilon=EPSILON)(toy, edit, batch), x, edit),
        distance(toy, disrupting(toy, epsilon=EPSILON)(batch), x, edit),
        distance(toy, universal(cmua([toy], faces, epsilon=EPSILON), EPSILON)(batch), x, edit),
        distance(toy, uniform_noise(epsilon=EPSILON)(batch), x, edit),
    ]
    assert reached == sorted(reached, reverse=True)
    assert reached[1] > 2 * reached[3]


class Trade(Toy):
    """Red and green that move together move the background, far; against each other they move the face."""

    def forward(self, x, edit):
        face = face_mask(POINTS.repeat(len(x), 1, 1), (SIZE, SIZE))
        apart, together = x[:, :1] - x[:, 1:2], (x[:, :1] + x[:, 1:2]).roll(SIZE // 2, dims=3)
        return Manipulation((face * apart + 5 * (1 - face) * together).expand(-1, 3, -1, -1), x)


@pytest.mark.parametrize(("model", "measure"), [(Trade(), "l2_face"), (Toy(seed=1), "similarity")])
def test_the_criterions_white_box_aims_at_the_face_and_at_identity(model, measure, faces):
    batch = batch_of(faces)
    edit = model.edits(batch.attributes)[3]
    mask, frame = face_mask(batch.landmarks, (SIZE, SIZE)), arcface_frame(batch.landmarks, (SIZE, SIZE))

    def reached(attack):
        attacked = attack(model, edit, batch)
        assert (attacked - batch.images).abs().max() <= EPSILON + 1e-6
        clean, found = model(batch.images, edit).output, model(attacked, edit).output
        return {
            "l2_face": l2_face(clean, found, mask).mean(),
            "similarity": -identity_similarity(Eye()(clean, frame), Eye()(found, frame)).mean(),
        }[measure]

    whole, aimed = map(reached, references(steps=20).values())
    assert aimed > 2 * whole if measure == "l2_face" else aimed > whole + 0.05


class Angle(Recognizer):
    """Whom it sees is an angle, the blue of one pixel."""

    name = "angle"
    size = 16

    def __init__(self, column):
        super().__init__()
        self.column = column

    def forward(self, images, frame=None):
        angle = images[:, 2, 0, self.column]
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    backbone = head = None


@pytest.mark.parametrize(
    ("kept", "others", "why"),
    [
        ((0.28, 0.2, 0.2), (0.35, 0.25, 0.25), "L2_face beyond the cap is worth nothing"),
        ((0.30, 0.2, 0.2), (0.25, -0.9, -0.9), "nor is similarity below the floor"),
        ((0.23, 0.39, 0.39), (0.30, 0.5, 0.1), "who meets the criterion, by every recogniser, comes first"),
        ((0.20, 0.3, 0.2), (0.20, 0.25, 0.35), "all recognisers count"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_each_face_keeps_its_best_restart(kept, others, why, first, monkeypatch):
    """A restart is the shift of the face, and the similarity that each recogniser sees."""
    x, landmarks = torch.zeros(2, 3, SIZE, SIZE), POINTS.repeat(2, 1, 1)

    def restart(*faces):
        attacked = x + torch.tensor([shift for shift, *_ in faces])[:, None, None, None]
        attacked[:, 2, 0, :2] = torch.tensor([cosines for _, *cosines in faces]).acos()
        return attacked

    made = [restart(kept, others), restart(others, kept)][:: 1 if first else -1]
    given = iter(made)
    monkeypatch.setattr(criterion, "pgd", lambda *_, **__: next(given))
    attacked = criterion.attack_criterion(lambda z: z, x, landmarks, [Angle(0), Angle(1)], epsilon=1.0, restarts=2)
    assert torch.equal(attacked, restart(kept, kept)), why


@pytest.mark.parametrize("edits", ["all", "cycle"])
def test_a_reference_attacks_the_first_faces_each_under_its_edit_with_their_own_points(edits, faces):
    faces = replace(faces, landmarks=faces.landmarks + torch.arange(7.0)[:, None, None] / 4)
    seen = []

    def attack(manipulator, edit, batch):
        seen.append((manipulator.seed, edit.name, batch))
        return shift(batch)

    given = {WHITE_BOX: shift_for(EPSILON), CEILING: attack}
    report = measure(faces, {"shift": shift}, references=given, reference_faces=4, edits=edits)
    ceiling, shifted = (report.values["l2_face"][report.protections.index(name)] for name in (CEILING, "shift"))
    attacked = (torch.arange(7)[:, None] == torch.arange(5)) & (torch.arange(7)[:, None] < 4)
    assert torch.equal(ceiling.isfinite(), attacked.expand_as(ceiling))
    torch.testing.assert_close(ceiling[:, attacked], shifted[:, attacked])
    whole = report.values["l2_face"][report.protections.index(WHITE_BOX)]
    assert torch.equal(whole.isfinite(), ceiling.isfinite())
    assert (whole[:, attacked] > 1.5 * ceiling[:, attacked]).all()
    for _, name, batch in seen:
        i = ATTRIBUTES.index(name)
        assert torch.equal(batch.images, batch_of(faces).images[i : i + 1])
        assert torch.equal(batch.landmarks, faces.landmarks[i : i + 1])
    assert len(seen) == 2 * 4


def test_an_unknown_reference_is_named(faces):
    with pytest.raises(IDGuardError, match="unknown references: White"):
        measure(faces, references={"White": shift_for(EPSILON)})


def test_cmua_step_by_step():
    """Two steps on one model, by hand: eta is the batch's mean, averaged in with a half."""

    class Linear(Toy):
        def forward(self, x, edit):
            return Manipulation(2 * x, x)  # the gradient's sign is that of the perturbation

    faces = Faces(
        ("a", "b"),
        torch.full((2, 3, SIZE, SIZE), 128, dtype=torch.uint8),
        torch.zeros(2, 5),
        POINTS.repeat(2, 1, 1),
    )
    one = cmua([Linear()], faces, epsilon=EPSILON, steps=1, step_size=0.01)
    assert one.shape == (1, 3, SIZE, SIZE)
    assert one.abs().max() <= EPSILON
    two = cmua([Linear()], faces, epsilon=EPSILON, steps=2, step_size=0.01)
    again = (one + 0.01 * one.sign()).clamp(-EPSILON, EPSILON)
    torch.testing.assert_close(two, (one + again) / 2, atol=1e-6, rtol=0)


def test_cmuas_official_budget_is_as_many_steps_for_every_edit(faces, capsys):
    faces = replace(
        faces, images=faces.images[:2], attributes=faces.attributes[:2], landmarks=faces.landmarks[:2], names=("a", "b")
    )
    targets = [Toy(seed=0), Toy(seed=1)]
    cmua(targets, faces, epsilon=EPSILON, steps=3)
    assert [toy.seen for toy in targets] == [2 * (5 + 3)] * 2  # the clean faces once under each edit
    cmua(targets, faces, epsilon=EPSILON, steps=3, each_edit=True, verbose=True)
    assert [toy.seen for toy in targets] == [2 * (5 + 3) + 2 * (5 + 5 * 3)] * 2
    assert "30/30" in capsys.readouterr().err


def test_cmuas_official_budget_step_by_step():
    """Each edit is attacked from the random start anew, and its steps are averaged in behind those before it."""

    class Bent(Toy):
        """The first edit answers to brightness as it is, the others to its opposite, in one pixel each."""

        def forward(self, x, edit):
            place = int(edit.condition[0])
            only = torch.zeros_like(x)
            only[..., place] = 1
            return Manipulation(only * x, x)

    faces = Faces(("a",), torch.full((1, 3, SIZE, SIZE), 128, dtype=torch.uint8), torch.zeros(1, 5), POINTS[None])
    x = faces.batch(slice(None)).images
    start = project(x + EPSILON * (2 * torch.rand(x.shape, generator=face_generator(x, 0)) - 1), x, EPSILON) - x
    expected = None
    for edit in range(5):
        moved = start.clone()
        moved[..., edit] += 0.01 * start[..., edit].sign()  # away from the clean column; the others stand
        eta = moved.clamp(-EPSILON, EPSILON)
        expected = eta if expected is None else (expected + eta) / 2
    found = cmua([Bent()], faces, epsilon=EPSILON, steps=1, step_size=0.01, each_edit=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_p_pert_is_the_prior_of_the_protector(faces):
    protector = Protector(generator="resnet", generator_config={"channels": 8}, size=SIZE).eval()
    nn.init.uniform_(protector.prior, -2 * EPSILON, 2 * EPSILON)
    batch = batch_of(faces)
    with torch.no_grad():
        specific, prior = protector(batch.images)
    torch.testing.assert_close(p_pert(protector)(batch), prior)
    torch.testing.assert_close(id_guard(protector)(batch), specific)


# Data sets by name


def test_data_specification():
    assert DataSpec.parse("lfw=a/b.tar,framing=align") == ("lfw", "a/b.tar", "test", "align")
    assert DataSpec.parse("c=d,split=train") == ("c", "d", "train", "resize")


@pytest.mark.parametrize("text", ["", "a", "a=", "=b", "a=b,size=3", "a=b,framing=wide", "x/y=b"])
def test_data_specification_errors_show_the_form(text):
    with pytest.raises(IDGuardError, match="expected NAME=PATH"):
        DataSpec.parse(text)


# Numbers of the commands


@pytest.fixture(scope="module")
def stargan(tmp_path_factory):
    (model,) = tiny_manipulators(["stargan"])
    folder = tmp_path_factory.mktemp("models") / "stargan"
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("command", "option", "value", "expected"),
    [
        ("evaluate", "--batch-size", "0", "at least 1"),
        ("evaluate", "--limit", "-1", "at least 1"),
        ("evaluate", "--baseline-limit", "0", "at least 1"),
        ("evaluate", "--reference-faces", "-3", "at least 0"),
        ("evaluate", "--reference-steps", "0", "at least 1"),
        ("evaluate", "--reference-restarts", "0", "at least 1"),
        ("evaluate", "--baseline-steps", "0", "at least 1"),
        ("evaluate", "--size", "0", "at least 1"),
        ("evaluate", "--size", "66", "a multiple of 4"),
        ("evaluate-manipulator", "--batch-size", "-1", "at least 1"),
        ("evaluate-manipulator", "--size", "66", "a multiple of 4"),
        ("attack-manipulator", "--limit", "0", "at least 1"),
        ("attack-manipulator", "--size", "66", "a multiple of 4"),
    ],
)
def test_numbers_that_cannot_be_used_are_named(command, option, value, expected, stargan, tmp_path, capsys):
    models = ["--manipulators", stargan] if command == "evaluate" else [stargan]
    words = [command, *models, "--data", f"toy={tmp_path}", "--output", str(tmp_path / "out"), option, value]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert any(f"{name} is {value}; expected {expected}" in error for name in (option, option[2:].replace("-", "_")))
