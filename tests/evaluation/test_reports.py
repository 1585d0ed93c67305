"""Reports as pages and plots: the numbers are the tables', names are names, nothing is fetched or half written."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from art_idguard.adversary.report import AdversaryReport
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.document import Document, Marked, Picture, Section, Table, facts, write_html
from art_idguard.evaluation.figures import protection_bars, robustness_curves
from art_idguard.evaluation.plots import save_plot
from art_idguard.evaluation.report import Report
from art_idguard.evaluation.tables import document
from art_idguard.evaluation.training_log import POINTS, read_training, training_curves
from art_idguard.hub.card_results import markdown as card_markdown
from art_idguard.hub.shipped import shipped


class Page(HTMLParser):
    """Tables as text, addresses, and names of the elements of a page."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.addresses, self.elements, self.inside = [], [], set(), False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data


def page_of(folder, *documents):
    write_html(folder / "report.html", documents)
    return Page(folder / "report.html")


@pytest.fixture
def values():
    """L2_face and similarity of two protections, four manipulators, three faces."""
    random = torch.Generator().manual_seed(0)
    return torch.rand(2, 2, 4, 3, 1, generator=random)


@pytest.fixture
def report(values):
    names = ("stargan, none", "stargan, jpeg=75", "relgan, none", "relgan, jpeg=75")
    l2, alike = values
    photos = {
        name: torch.ones(2, 3)
        for name in ("psnr", "ssim", "ciede_mean", "ciede_p95", "ciede_share", "low_frequency", "max_delta")
    }
    found = {"l2_face": l2, "l2_residual": l2, "l2_image": l2, "similarity.eye": alike}
    about = {"data": {"name": "toy", "split": "test"}, "size": 32, "seed": 3, "weights": {"stargan": "ab" * 32}}
    return Report(("A", "B"), names, dict.fromkeys(names, ("edit",)), ("eye",), found, photos, about)


def test_a_report_begins_with_what_was_measured_and_a_short_table(report, values, tmp_path):
    page = page_of(tmp_path, document(report))
    head, *rows = page.tables[0]
    wide = page.tables[1][0]
    assert len(head) == 7 < len(wide)
    l2 = values[0, :, :, :, 0].double().numpy()
    for row, each in zip(rows, l2, strict=True):
        assert row[1].split(" ")[0] == f"{each.mean():.4f}"
        assert row[2].split(" ")[0] == f"{each.mean(axis=1).min():.4f}"
    title, about, *_ = document(report).markdown().split("\n\n")
    assert title == "# Protections on toy (test)"
    known = "- data: toy (test)\n- faces: 3\n- size: 32 px\n- weights (sha256): stargan abababababab\n- seed: 3"
    assert about == known


def test_a_card_takes_the_tables_alone(report, tmp_path):
    (tmp_path / "toy.md").write_text(document(report).markdown())
    text = card_markdown(tmp_path / "toy.json", {"metadata": {"data": "toy"}})
    assert text.startswith("### toy\n")
    assert "**In short" in text
    assert not re.search("^# |^- ", text, flags=re.MULTILINE)


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)


@settings(deadline=None, max_examples=20)
@given(names=st.lists(NAMES, min_size=3, max_size=3))
def test_names_are_names_on_the_page_and_in_its_title(names, tmp_path_factory):
    title, head, cell = names
    table = Table([head, "↑"], [[cell, Marked("strong", "1", " ±0")]])
    page = page_of(tmp_path_factory.mktemp("page"), Document(title, {head: cell}, Section(title, cell, table), ()))
    assert page.tables == [[[head, "↑"], [cell, "1 ±0"]]]
    assert page.elements.isdisjoint({"script", "link", "iframe", "img", "a"})


def test_a_bar_in_a_name_is_no_column_in_markdown():
    text = Document("t", {}, Section(table=Table(["a|b", "c"], [["<x>", "1|2"]])), ()).markdown()
    assert "| a\\|b | c |\n| --- | ---: |\n| <x> | 1\\|2 |" in text


def test_pictures_are_in_the_page_and_nothing_else_is_fetched(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "my picture.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "edits.jpg")
    pictures = [Picture(tmp_path / name, '"quoted"') for name in ("my picture.png", "edits.jpg")]
    page = page_of(tmp_path, Document("t", {}, Section(), (), pictures))
    for address, kind in zip(page.addresses, ("png", "jpeg"), strict=True):
        start, content = address.split(",")
        assert start == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == (3, 2)


def test_a_page_that_cannot_be_made_leaves_the_one_before(tmp_path):
    page_of(tmp_path, Document("before", {}, Section(), ()))
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(FileNotFoundError):
        page_of(tmp_path, Document("after", {}, Section(), (), [Picture(tmp_path / "none.png", "")]))
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_facts_are_those_that_are_known():
    assert facts({}) == {}
    assert facts({"weights": {"stargan": None}})["weights (sha256)"] == "stargan unknown"
    assert facts({"weights": "0" * 64, "data": "toy (test)", "seed": 0}) == {
        "data": "toy (test)",
        "weights (sha256)": "model 000000000000",
        "seed": "0",
    }


def test_bars_are_means_over_manipulators_and_the_worst_with_their_intervals(report, values):
    figure = protection_bars(report)
    axes = figure.axes
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["mean over manipulators", "worst manipulator"]
    for axis, cells, worst in zip(axes, values[..., 0].double().numpy(), (np.min, np.max), strict=True):
        bars = [patch.get_width() for patch in axis.patches]
        expected = [*cells.mean(axis=(1, 2)), *worst(cells.mean(axis=2), axis=1)]
        assert bars == pytest.approx(expected, rel=1e-6)
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["A", "B"]
    errors = axes[0].collections[0]
    means = report.mean("l2_face")
    for (low, high), name in zip(errors.get_segments(), ("A", "B"), strict=True):
        assert (low[0], high[0]) == pytest.approx((means(name).low, means(name).high))


def test_curves_are_means_over_manipulators_behind_each_operation(report, values):
    figures = robustness_curves(report, ["none", "jpeg=75"])
    assert list(figures) == ["jpeg"]
    for axis, cells in zip(figures["jpeg"].axes, values[..., 0].double().numpy(), strict=True):
        lines = [container.lines[0].get_ydata() for container in axis.containers]
        for line, each in zip(lines, cells, strict=True):
            assert line == pytest.approx([each[[0, 2]].mean(), each[[1, 3]].mean()], rel=1e-6)
    assert robustness_curves(report, ["none"]) == {}


def test_an_adversarys_bars_end_with_each_faces_worst_attempt(report, values):
    figure = AdversaryReport("stargan", report).bars()
    for axis, cells, worst in zip(figure.axes, values[..., 0].double().numpy(), (np.min, np.max), strict=True):
        bars = np.array([patch.get_width() for patch in axis.patches]).reshape(2, 5)
        assert bars[:, :4] == pytest.approx(cells.mean(axis=2), rel=1e-6)
        assert bars[:, 4] == pytest.approx(worst(cells, axis=1).mean(axis=1), rel=1e-6)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == [*report.manipulators, "the worst for each face"]


def test_an_adversarys_effort_is_all_that_is_tried_up_to_there(report, values):
    tried = ("none", "jpeg=75", "lora, 2 steps", "lora, 4 steps")
    figure = AdversaryReport("stargan", replace(report, manipulators=tried)).against_effort()
    for axis, cells, worst in zip(figure.axes, values[..., 0].double().numpy(), (np.min, np.max), strict=True):
        for container, each in zip(axis.containers, cells, strict=True):
            expected = [worst(each[:number], axis=0).mean() for number in (1, 2, 3, 4)]
            assert container.lines[0].get_ydata() == pytest.approx(expected, rel=1e-6)
    figure.draw_without_rendering()
    levels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert levels == ["none", "at once", "half", "all steps"]


def test_what_was_not_measured_has_no_bar(report):
    missing = {name: torch.full_like(values, math.nan) for name, values in report.values.items()}
    axes = protection_bars(replace(report, values=missing)).axes
    assert all(math.isnan(patch.get_width()) for axis in axes for patch in axis.patches)


def test_the_same_figure_is_the_same_file_under_all_of_the_users_settings(report, tmp_path):
    odd = replace(report, protections=("$A_{$", "_B"))  # neither a formula nor a hidden label
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        save_plot(tmp_path / "a.png", protection_bars(odd), "")
    save_plot(tmp_path / "b.png", protection_bars(odd), "")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info.keys() == {"dpi"}


def record(step, **weights):
    return {"step": step, "seconds": 1.5, "objective": dict.fromkeys(weights, -1.0), "weights": weights}


def write_log(path, records, end=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records) + end)


def curve(figure, panel, name):
    axis = next(axis for axis in figure.axes if axis.get_title() == panel)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    line = axis.containers[names.index(name)].lines[0]
    return list(line.get_xdata()), list(line.get_ydata())


def test_stages_of_a_training_follow_each_other_and_a_half_line_is_none(tmp_path):
    write_log(tmp_path / "log-2.jsonl", [record(1, s=1.0), record(2, s=2.0)])
    write_log(tmp_path / "log-10.jsonl", [record(1, s=3.0, r=4.0)], end='{"step": 2, "wei')
    figure = training_curves(read_training(str(tmp_path)))
    assert curve(figure, "weights", "s") == ([1, 2, 3], [1, 2, 3])
    assert curve(figure, "weights", "r") == ([1, 2, 3], pytest.approx([math.nan, math.nan, 4], nan_ok=True))
    assert curve(figure, "objective", "s")[1] == [-1, -1, -1]


def test_a_long_training_is_drawn_in_means(tmp_path):
    weights = np.random.default_rng(0).random(2 * POINTS)
    write_log(tmp_path / "log.jsonl", [record(i + 1, s=w) for i, w in enumerate(weights)])
    steps, drawn = curve(training_curves(read_training(str(tmp_path))), "weights", "s")
    assert drawn == pytest.approx(weights.reshape(POINTS, 2).mean(axis=1))
    assert steps == pytest.approx(2 * np.arange(POINTS) + 1.5)


def test_a_runs_log_is_beside_the_model_that_it_wrote(tmp_path):
    write_log(tmp_path / "run" / "log.jsonl", [record(1, s=1.0)])
    assert len(read_training(str(tmp_path / "run" / "protector"))) == 1
    assert read_training(str(tmp_path / "run" / "other")) == []
    assert read_training("user/name") == []


def test_the_wide_protectors_training_is_drawn():
    steps = read_training(str(shipped("wide/protector-celeba128")))
    figure = training_curves(steps)
    assert [axis.get_title() for axis in figure.axes] == ["objective", "kpi", "weights"]
    assert {axis.get_xlabel() for axis in figure.axes} == {"step"}
    assert steps[-1]["step"] == len(steps) == 4031


DAMAGED = (
    "nonsense",
    "[]",
    "{}",
    '{"step": 1}',
    '{"step": "1", "a": {"b": 1}}',
    '{"step": 1, "a": {"b": "x"}}',
    "\xff",
)


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_log_is_named(line, tmp_path):
    (tmp_path / "log.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(IDGuardError, match=r"log\.jsonl is no log of a training"):
        read_training(str(tmp_path))
