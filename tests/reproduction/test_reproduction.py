"""`art-idguard reproduce`: what is trained once and shared, the arithmetic of its tables, and the paper's figures."""

import json
import math
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from art_idguard.attacks import robustness
from art_idguard.attacks.white_boxes import WHITE_BOXES
from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.measures import FORGERIES, PHOTOS
from art_idguard.evaluation.report import Report
from art_idguard.files.parsing import read_toml
from art_idguard.manipulators import MANIPULATORS as KINDS
from art_idguard.recognizers import SFace
from art_idguard.reproduction import forensics, hardening, run, workshop
from art_idguard.reproduction.config import ReproductionConfig
from art_idguard.reproduction.experiments import EXPERIMENTS, MANIPULATORS, Baseline, Trained
from art_idguard.reproduction.result import AVERAGE, Result, pooled, reported
from art_idguard.reproduction.workshop import SCALES, Workshop
from art_idguard.training.manipulator import ManipulatorConfig
from art_idguard.training.protector import ProtectorConfig
from tests.toys import CONFIGS, TINY, write_labels, write_portraits

RECIPE = """
size = 64
channels = 8
norm = "instance"
prior = "zeros"
weighting = "kpi"
batch_size = 4
steps = 2
lr = 0.01
faces = ""
output = ""
recognizers = ["hub/recognizers/sface"]
"""

WATERMARK = """
size = 64
bits = 12
channels = 4
alone = 1
batch_size = 4
steps = 3
faces = ""
output = ""
"""

HARDENING = """
size = 64
batch_size = 4
n_critic = 1
warmup = 0
steps = 2
faces = ""
output = ""
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Faces with labels, the five manipulators at toy size where those that ship would lie, and a recipe."""
    folder = tmp_path_factory.mktemp("place")
    write_labels(write_portraits(folder / "faces", 12))
    torch.manual_seed(1)
    for name in MANIPULATORS:
        KINDS[name](**CONFIGS.get(name, TINY)).eval().save_pretrained(folder / "hub" / "small" / f"{name}-celeba64")
    SFace(width=2).eval().save_pretrained(folder / "hub" / "recognizers" / "sface")
    (folder / "protector-celeba64").write_text(RECIPE)
    (folder / "watermark-celeba64").write_text(WATERMARK)
    for name in hardening.HARDENED:
        (folder / f"{name}-at-celeba64").write_text(f'manipulator = "{name}"{HARDENING}')
    return folder


@contextmanager
def at(place):
    """The toy hub and recipe in place of those that ship."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (workshop, run, hardening):
            patch.setattr(module, "shipped", lambda path: place / "hub" / path)
        patch.chdir(place)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        yield


@pytest.fixture
def here(place):
    with at(place):
        yield place


@pytest.fixture(scope="module")
def two_seeds(place, tmp_path_factory):
    """The output of fig16 with two seeds."""
    output = tmp_path_factory.mktemp("two")
    with at(place):
        assert main(words(place, output, "fig16", "--seeds", "0", "1")) == 0
    return output


def words(place, output, experiment="fig16", *options):
    data = f"celeba={place}/faces,split=train"
    of_all = [experiment, "--faces", place / "faces", "--data", data, "--output", output, "--limit", "4", "--quiet"]
    return ["reproduce", *map(str, [*of_all, *options])]


def results(output, experiment):
    return json.loads((output / "small" / experiment / "celeba.json").read_text())


@pytest.mark.slow
def test_an_experiment_trains_each_row_for_each_seed_and_shares_them_with_the_next(
    here, two_seeds, monkeypatch, capsys
):
    trained = sorted(path.name for path in (two_seeds / "small" / "protectors").iterdir())
    both = ["protector", "protector-seed-1", "protector-weighting-mgda", "protector-weighting-mgda-seed-1"]
    assert trained == both
    assert len(list((two_seeds / "small" / "clean").iterdir())) == len(MANIPULATORS)  # shared by all
    monkeypatch.setattr(workshop, "train_protector", lambda config, **_: pytest.fail(f"trains {config.output} anew"))
    first = results(two_seeds, "fig16")
    assert main(words(here, two_seeds, "fig16", "--seeds", "0", "1")) == 0
    assert "| S-I |" in capsys.readouterr().out
    assert first["measured"] == results(two_seeds, "fig16")["measured"]
    files = {path.name for path in (two_seeds / "small" / "fig16").iterdir()}
    assert {"celeba.json", "celeba.md", "celeba-bars.png", "celeba-weights.png", "report.html"} <= files


@pytest.mark.slow
def test_figures_of_seeds_are_means_over_what_evaluate_measured(two_seeds):
    found = results(two_seeds, "fig16")
    setting, *batches = map(
        json.loads, next(two_seeds.glob("small/fig16/evaluation-*/celeba.jsonl")).read_text().splitlines()
    )
    names = setting["protections"]
    values = torch.cat(
        [torch.tensor(batch["forgeries"]) for batch in batches], dim=3
    )  # measure, row, model, face, edit
    l2_face = values[0].nanmean(dim=(1, 2, 3))
    for row, own in (("S-II", "protector"), ("S-I", "protector-weighting-mgda")):
        seeds = [l2_face[names.index(own)].item(), l2_face[names.index(f"{own}-seed-1")].item()]
        by_seed = [found["by seed"][seed]["l2_face"][row]["mean"] for seed in ("0", "1")]
        assert by_seed == pytest.approx(seeds, rel=1e-4)
        assert found["measured"][row][AVERAGE]["l2_face"]["mean"] == pytest.approx(sum(seeds) / 2, rel=1e-4)
    gap = found["difference from the first row"]["l2_face"]["S-II"]["mean"]
    means = [found["measured"][row][AVERAGE]["l2_face"]["mean"] for row in ("S-II", "S-I")]
    assert gap == pytest.approx(means[0] - means[1], abs=2e-6)  # six digits each


def report(rows=3, faces=4, edits=2):
    shape = (rows, 2, faces, edits)
    return Report(
        tuple("abc"[:rows]),
        ("stargan", "relgan"),
        {"stargan": ("Male", "Young"), "relgan": ("Male", "Young")},
        ("sface",),
        {"similarity.sface": torch.rand(shape)} | {measure.name: torch.rand(shape) / 10 for measure in FORGERIES},
        {measure.name: torch.rand(rows, faces) for measure in PHOTOS},
        {"data": {"name": "celeba", "split": "test"}, "n": faces, "size": 64},
    )


def test_pooled_dsr_counts_every_seed_and_is_no_dsr_of_means():
    whole = report()
    found = pooled(whole, {"ours": ["a", "b"], "noise": ["c"]})
    succeeded = (whole.values["l2_face"] > 0.05) & (whole.values["similarity.sface"] < 0.4)
    assert found.mean("dsr.sface")("ours").mean == pytest.approx(succeeded[:2].double().mean().item())
    assert found.mean("dsr.sface")("noise").mean == pytest.approx(succeeded[2].double().mean().item())
    assert found.cell("l2_face", "relgan")("ours").mean == pytest.approx(whole.values["l2_face"][:2, 1].mean().item())


def test_a_document_has_the_papers_figures_of_its_data_set():
    for data, first in (("LFW", "0.956"), ("ffhq", "0.956"), ("celeba", "1.047")):
        whole = report()
        named = Report(**{**vars(whole), "metadata": whole.metadata | {"data": {"name": data, "split": "test"}}})
        result = Result("table1", EXPERIMENTS["table1"], pooled(named, {"Ours": ["a"]}), {0: named}, {"scale": "small"})
        text = result.document().markdown()
        assert len(re.findall("Reported by the paper", text)) == 1
        assert f"| Disrupting | {first} " in text


def test_a_training_that_is_stopped_ends_the_command(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workshop, "train_protector", lambda config, *, on_stop, **_: on_stop("stopped at step 1 of 2"))
    assert main(words(here, tmp_path)) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.slow
def test_a_first_look_trains_nothing_and_leaves_out_what_is_not_there(here, two_seeds, tmp_path, monkeypatch, capsys):
    for name in ("train_protector", "train_manipulator"):
        monkeypatch.setattr(workshop, name, lambda *_, **__: pytest.fail("trained"))
    assert main(words(here, tmp_path, "fig16", "--quick")) == 1
    assert "none of the 2 protectors of this experiment ships or is trained" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="4 of 6 protectors are not trained yet, and left out"):
        assert main(words(here, two_seeds, "table3", "--quick")) == 0
    assert set(results(two_seeds, "table3-quick")["measured"]) == {"MGDA-based (S-I)", "KPI-based (S-II)", run.NOISE}


@pytest.mark.slow
def test_a_model_that_a_stopped_training_has_left_is_not_taken_for_trained(here, two_seeds, tmp_path, capsys):
    run_ = tmp_path / "small" / "protectors" / "protector"
    shutil.copytree(two_seeds / "small" / "protectors" / "protector", run_)
    log = (run_ / "log.jsonl").read_text().splitlines(keepends=True)
    (run_ / "log.jsonl").write_text("".join(log[:-1]))
    assert main(words(here, tmp_path, "fig16", "--quick")) == 1
    assert "none of the 2 protectors" in capsys.readouterr().err


@pytest.mark.slow
def test_fewer_seeds_are_another_measurement_beside_the_first(here, two_seeds):
    assert main(words(here, two_seeds, "fig16", "--seeds", "1")) == 0
    assert len(list(two_seeds.glob("small/fig16/evaluation-*"))) == 2
    assert main(words(here, two_seeds, "fig16", "--seeds", "0", "1")) == 0  # as it was, for the tests that read it


@pytest.mark.slow
def test_a_first_look_with_seeds_that_are_not_trained_names_them(here, two_seeds, tmp_path, capsys):
    shutil.copytree(two_seeds / "small" / "protectors" / "protector", tmp_path / "small" / "protectors" / "protector")
    with pytest.warns(UserWarning, match="3 of 4 protectors are not trained yet"):
        assert main(words(here, tmp_path, "fig16", "--quick", "--seeds", "0", "1")) == 1
    assert "no row of fig16 is trained with all of the seeds" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_on_other_faces_is_not_taken_for_this_one(here, two_seeds, tmp_path, capsys):
    shutil.copytree(two_seeds / "small" / "protectors", tmp_path / "small" / "protectors")
    shutil.copytree(here / "faces", tmp_path / "others")
    command = ["reproduce", "fig16", "--faces", tmp_path / "others", "--output", tmp_path, "--quiet"]
    assert main(list(map(str, command))) == 1
    assert "was trained with other faces; choose another --output" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("left", ["", '{"step": 2, "seco'])
def test_a_log_without_a_whole_line_is_of_no_finished_training(left, two_seeds, tmp_path):
    run_ = tmp_path / "protector"
    shutil.copytree(two_seeds / "small" / "protectors" / "protector", run_)
    config = ProtectorConfig.from_recipe(run_ / "settings.toml")
    assert workshop._trained(run_, config, "protector") == run_ / "protector"
    (run_ / "log.jsonl").write_text(left)
    assert workshop._trained(run_, config, "protector") is None


@pytest.mark.parametrize(
    ("name", "columns"), [("table6", ["stargan-seed2", "relgan-instance"]), ("fig13", ["stargan"])]
)
def test_baselines_know_the_white_boxes_whichever_models_are_measured(name, columns, tmp_path, monkeypatch):
    monkeypatch.setattr(workshop, "shipped", lambda path: tmp_path / path)
    for model in (*MANIPULATORS, *columns):
        (tmp_path / "small" / f"{model}-celeba64").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(Workshop, "protectors", lambda *_: {(r, 0): tmp_path for r in EXPERIMENTS[name].rows})
    setting = run.Reproduction(
        ReproductionConfig(experiment=name, faces="faces", output=str(tmp_path / "out")), verbose=False
    ).setting()
    assert [Path(place).name for place in setting.manipulators] == [f"{model}-celeba64" for model in columns]
    assert [Path(place).name for place in setting.baseline_manipulators] == [f"{k}-celeba64" for k in MANIPULATORS]
    assert setting.baselines == ("disrupting=stargan", "pg=stargan", "cmua", "iap")


def test_an_unknown_experiment_is_named(here, tmp_path, capsys):
    assert main(words(here, tmp_path, "table9")) == 1
    assert "unknown experiment 'table9'; choose from: table1" in capsys.readouterr().err


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_row_can_be_trained_and_is_what_it_says(name, scale):
    lab = Workshop(ReproductionConfig(experiment=name, scale=scale, faces="faces"), verbose=False)
    for row, of in EXPERIMENTS[name].rows.items():
        if isinstance(of, Baseline):
            continue
        plain, ours = lab._config({}, 0), lab._config(of.settings, 0)
        changed = {key for key in vars(ours) if getattr(ours, key) != getattr(plain, key)}
        assert changed <= set(of.settings), row
        assert ours.size == SCALES[scale].size
    for manipulator in EXPERIMENTS[name].columns or MANIPULATORS:
        recipe = ManipulatorConfig.from_recipe(f"{manipulator}-{SCALES[scale].ending}")
        assert recipe.size == SCALES[scale].size


def test_equal_trainings_of_two_experiments_are_one():
    lab = Workshop(ReproductionConfig(experiment="table3", faces="faces"), verbose=False)
    rows = {(name, row): of for name, e in EXPERIMENTS.items() for row, of in e.rows.items() if isinstance(of, Trained)}
    names = {key: lab.protector_name(of.settings, 0) for key, of in rows.items()}
    assert names["table2", "#5 w/ all"] == names["table3", "KPI-based (S-II)"] == names["table1", "Ours (S-II)"]
    assert len({names["table2", row] for row in EXPERIMENTS["table2"].rows}) == len(EXPERIMENTS["table2"].rows)
    assert lab.protector_name({}, 2) == "protector-seed-2"


def test_help_names_every_experiment(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    *all_but_one, last = (name for name in EXPERIMENTS if name.startswith("fig"))
    assert f"table1 to table8, {', '.join(all_but_one)} or {last}." in said
    tables = {name for name in (*EXPERIMENTS, *run.OF_THEIR_OWN) if name.startswith("table")}
    assert tables == {f"table{i}" for i in range(1, 9)}


def test_table_iv_counts_the_parameters_that_the_paper_prints(here, tmp_path):
    assert main(words(here, tmp_path, "table4")) == 0
    found = json.loads((tmp_path / "small/table4/parameters.json").read_text())
    assert [found["measured"][name] for name in ("resnet", "unet")] == [7_850_819, 54_414_595]
    assert [found["reported"]["any"][name] for name in ("resnet", "unet")] == [7_850_819, 54_414_595]


@pytest.mark.slow
def test_table_vii_hardens_by_the_protector_and_stands_beside_the_papers(here, two_seeds, monkeypatch, capsys):
    assert set(hardening.COLUMNS.values()) <= set(WHITE_BOXES)
    noise = WHITE_BOXES[hardening.COLUMNS["Gaussian noise"]].run
    quick = {title: WHITE_BOXES[title]._replace(run=noise) for title in hardening.COLUMNS.values()}
    monkeypatch.setattr(robustness, "WHITE_BOXES", quick)
    assert main(words(here, two_seeds, "table7", "--quick")) == 1
    assert "none of the 2 hardened-manipulators" in capsys.readouterr().err
    assert main(words(here, two_seeds, "table7")) == 0
    printed = capsys.readouterr().out
    for row in ("stargan", "stargan-AT", "relgan", "relgan-AT", "RelGAN-AT"):
        assert f"| {row} |" in printed
    assert "| StarGAN | 0.070 | 0.261 |" in printed
    config = read_toml(two_seeds / "small/hardened-manipulators/relgan-at/settings.toml")
    assert config["start"] == str(here / "hub/small/relgan-celeba64")
    assert config["protector"] == str(two_seeds / "small/protectors/protector/protector")
    found = results(two_seeds, "table7")
    (row, *_) = found["measured"]["relgan"]["rows"]
    assert (row["model"], row["attack"]) == ("original", "Gaussian noise (sigma 0.05)")
    assert f"{row['l2_face']['mean']:.3f}" in re.search(r"\| relgan \|.*", printed).group()
    monkeypatch.setattr(workshop, "harden", lambda config, **_: pytest.fail(f"trains {config.output} anew"))
    assert main(words(here, two_seeds, "table7", "--quick")) == 0
    assert results(two_seeds, "table7-quick")["measured"].keys() == found["measured"].keys()


def test_hardening_goes_on_with_the_discriminator_that_lies_beside_the_manipulator(tmp_path, monkeypatch):
    lab = Workshop(ReproductionConfig(experiment="table7", faces="faces", output=str(tmp_path)), verbose=False)
    asked = []
    monkeypatch.setattr(workshop, "harden", lambda config, **_: asked.append(config) or tmp_path)
    (tmp_path / "discriminator.safetensors").touch()
    lab.hardened({"stargan": str(tmp_path / "manipulator")}, tmp_path / "protector")
    lab.hardened({"stargan": str(tmp_path / "hub" / "manipulator")}, tmp_path / "protector")
    assert [(c.start_discriminator, c.warmup) for c in asked] == [
        (str(tmp_path / "discriminator.safetensors"), 0),
        (None, 1000),
    ]


@pytest.mark.slow
def test_table_viii_trains_its_rows_once_and_stands_beside_the_papers(here, tmp_path, monkeypatch, capsys):
    assert main(words(here, tmp_path, "table8")) == 0
    assert "| FaceTagger-style |" in (printed := capsys.readouterr().out)
    assert sorted(path.name for path in (tmp_path / "small" / "watermarkers").iterdir()) == [
        "watermark",
        "watermark-manipulators-stargan",
        "watermark-weighting-mgda",
        "watermark-weighting-uniform",
    ]
    found = results(tmp_path, "table8")
    assert list(found["measured"]) == list(forensics.ROWS)
    assert list(found["measured"]["Ours (S-I)"])[:6] == ["photo", *MANIPULATORS]
    assert found["reported"]["CelebAMask-HQ"]["FaceTagger"]["hisd"] == {"ber": 0.512}
    assert "Reported by the paper, CelebAMask-HQ" in printed
    config = read_toml(tmp_path / "small/watermarkers/watermark-manipulators-stargan/settings.toml")
    assert config["manipulators"] == [str(here / "hub/small/stargan-celeba64")]
    monkeypatch.setattr(workshop, "train_watermarker", lambda config, **_: pytest.fail(f"trains {config.output} anew"))
    assert main(words(here, tmp_path, "table8", "--quick")) == 0
    assert results(tmp_path, "table8-quick")["metadata"]["quick"]


@pytest.mark.slow
def test_fig_11_asks_each_recogniser_beside_no_protection(here, two_seeds, monkeypatch, capsys):
    """With the trainings of another figure; the rows that learn are the baselines' own tests."""
    ours = {name: row for name, row in EXPERIMENTS["fig11"].rows.items() if isinstance(row, Trained)}
    monkeypatch.setitem(EXPERIMENTS, "fig11", replace(EXPERIMENTS["fig11"], rows=ours))
    assert main(words(here, two_seeds, "fig11", "--seeds", "0", "1")) == 0
    assert "| no protection |" in (printed := capsys.readouterr().out)
    assert printed.strip() == (two_seeds / "small/fig11/celeba.md").read_text().strip()
    found = results(two_seeds, "fig11")["measured"]
    assert list(found) == ["no protection", "Ours (S-I)", "Ours (S-II)"]
    for row in found.values():
        cells = row["sface, identification"]
        assert cells["mean"]["mean"] == pytest.approx(sum(cells[k]["mean"] for k in MANIPULATORS) / 5, abs=1e-5)
    assert {path.name for path in (two_seeds / "small" / "fig11").iterdir()} >= {"report.html", "celeba-bars.png"}
    with pytest.raises(SystemExit):
        main(words(here, two_seeds, "fig11", "--strangers"))
    assert main(words(here, two_seeds, "fig11", "--strangers", f"lfw={here}/faces,split=train")) == 1
    assert "does not say who it is" in capsys.readouterr().err


@pytest.mark.slow
def test_fig_12_shows_what_inpainting_makes_of_disrupted_forgeries(here, two_seeds, monkeypatch):
    """With the trainings of another figure and a restorer; the rows that learn are the baselines' own tests."""
    ours = {name: row for name, row in EXPERIMENTS["table5"].rows.items() if isinstance(row, Trained)}
    monkeypatch.setitem(
        EXPERIMENTS, "table5", replace(EXPERIMENTS["table5"], rows=ours, restorers=("telea", "navier-stokes"))
    )
    assert main(words(here, two_seeds, "table5")) == 0
    files = {path.name for path in (two_seeds / "small" / "table5").iterdir()}
    assert {"celeba-bars.png", "celeba-inpainted.png"} <= files
    with Image.open(two_seeds / "small/table5/celeba-inpainted.png") as picture:
        width, height = picture.size
    assert width > 5 * 64  # photo, forged, disrupted, and by either restorer
    assert height > 5 * 64  # manipulators
    cells = results(two_seeds, "table5")["measured"]["Ours (S-II)"]
    assert {"stargan, telea", "hisd, navier-stokes"} <= cells.keys()


def test_the_papers_figures_agree_with_each_other():
    """Its averages are those of its cells, to the digits that it prints: a slip in copying would show."""
    for row, of in reported("table3")["CelebAMask-HQ"].items():
        cells = [of[k]["dsr"] for k in MANIPULATORS]
        assert sum(cells) / 5 == pytest.approx(of["mean"]["dsr"], abs=0.0015), row
    ours = reported("table1")["CelebAMask-HQ"]["Ours (S-II)"]
    assert sum(ours[k]["l2_face"] for k in MANIPULATORS) / 5 == pytest.approx(0.427, abs=1e-3)  # Table II #5 has 0.425
    assert {len(rows) for rows in reported("table1").values()} == {7}


def test_the_papers_figures_are_those_of_its_text(shared):
    text = (shared / "paper" / "id-guard.txt").read_text().replace("**", "").replace("<u>", "").replace("</u>", "")
    of_tables = (rows for name in ("table1", "table3", "table6", "table7") for rows in reported(name).values())
    for rows in of_tables:
        for row, of in rows.items():
            cells = "\t".join(f"{value:.3f}" for values in of.values() for value in values.values())
            assert cells in text, row


def test_no_estimate_is_lost_on_the_way_to_json():
    whole = report()
    result = Result("fig16", EXPERIMENTS["fig16"], pooled(whole, {"S-I": ["a"], "S-II": ["b"]}), {0: whole}, {})
    measured = result.json()["measured"]
    assert set(measured) == {"S-I", "S-II"}
    assert set(measured["S-I"]) == {"stargan", "relgan", AVERAGE}
    assert all(
        math.isfinite(cell["mean"]) for of in measured.values() for cells in of.values() for cell in cells.values()
    )


def test_places_without_a_name_are_refused():
    with pytest.raises(IDGuardError, match="faces"):
        ReproductionConfig.from_recipe(None, experiment="table1")
