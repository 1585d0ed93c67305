"""The command line on good and bad input: messages, exit codes, other files done, nothing half-written."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file

from art_idguard import cli
from art_idguard.cli import main
from art_idguard.evaluation.report import REFERENCES
from art_idguard.perturbation import Protector
from art_idguard.photos.manifest import NAME
from tests.toys import PORTRAIT, tiny_manipulators, write_portraits


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("protector")
    Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).save_pretrained(folder)
    return folder


@pytest.fixture
def photo(tmp_path):
    return Path(shutil.copy(PORTRAIT, tmp_path / "photo.png"))


def protect(*words, model, check="none"):
    return main(["protect", *map(str, words), "--model", str(model), "--check", check])


def left_behind(folder):
    return sorted(path.name for path in folder.rglob(".*") if path.name != NAME)


def test_without_a_command_the_error_is_short(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.endswith(
        "COMMAND ...\nart-idguard: error: the following arguments are required: COMMAND\n"
    )


def test_protect_writes_beside_the_photo(photo, model, capsys):
    assert protect(photo, model=model) == 0
    written = photo.with_name("photo.protected.png")
    difference = np.asarray(Image.open(written)).astype(int) - np.asarray(Image.open(photo))
    assert 0 < np.abs(difference).max() <= 6
    assert "1 face(s), changed by at most" in capsys.readouterr().out


@pytest.mark.parametrize(("blur", "doubtful"), [(0, False), (9, True)])
def test_a_face_that_is_hardly_one_is_said_to_be(tmp_path, model, blur, doubtful, capsys):
    photo = tmp_path / "photo.png"
    Image.open(PORTRAIT).convert("RGB").filter(ImageFilter.GaussianBlur(blur)).save(photo)
    assert protect(photo, model=model) == 0
    assert ("not sure of 1 face(s)" in capsys.readouterr().out) == doubtful


def test_protect_measures_the_written_file(photo, model, tmp_path, capsys):
    (manipulator,) = tiny_manipulators(("stargan",))
    manipulator.save_pretrained(tmp_path / "stargan")
    assert protect(photo, "--overwrite", model=model, check=str(tmp_path / "stargan")) == 0
    said = re.escape(f"{photo} -> {photo.with_name('photo.protected.png')}: ") + r"(Weak|Fair|Strong): StarGAN "
    assert re.match(
        said + r".*; L2_face 0\.\d{4} \(damaged above 0\.05\), identity similarity ", capsys.readouterr().out
    )


@pytest.mark.slow
def test_shipped_models_protect_offline_and_show_it(photo, tmp_path):
    """The README's main job."""
    assert main(["protect", str(photo), "--output", str(tmp_path / "out"), "--show"]) == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("[!.]*"))
    assert names == ["photo.before-after.png", "photo.protected.png"]


@pytest.mark.slow
def test_refined_photos_stay_within_the_bound_and_are_others(photo, model, capsys):
    assert protect(photo, "--refine", "1", model=model) == 0
    assert "changed by at most 6 of 255 levels" in capsys.readouterr().out
    result = photo.with_name("photo.protected.png")
    results = [result.read_bytes()]
    assert protect(photo, "--refine", "1", "--refine-against", "photo", model=model) == 0  # other settings, done anew
    results.append(result.read_bytes())
    assert protect(photo, "--overwrite", model=model) == 0
    assert len({*results, result.read_bytes()}) == 3
    assert protect(photo, "--refine", "-1", model=model) == 1
    assert "refine is -1; expected at least 0" in capsys.readouterr().err


def test_a_batch_goes_on_after_bad_files(tmp_path, model, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(PORTRAIT, folder / "a-good.png")
    (folder / "b-empty.jpg").touch()
    (folder / "c-text.png").write_text("no picture")
    (folder / "d-cut.png").write_bytes(PORTRAIT.read_bytes()[:5000])
    Image.new("RGB", (1, 1)).save(folder / "e-dot.png")
    Image.new("RGB", (300, 300), "gray").save(folder / "f-faceless.png")
    shutil.copy(PORTRAIT, folder / "g-good.png")
    out = tmp_path / "out"
    assert protect(folder, "--output", out, model=model) == 1
    assert sorted(p.name for p in out.glob("[!.]*")) == ["a-good.protected.png", "g-good.protected.png"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("art-idguard: error:")]
    assert len(errors) == 5
    for name in ("b-empty.jpg", "c-text.png", "d-cut.png", "e-dot.png", "f-faceless.png"):
        assert sum(name in line for line in errors) == 1
    assert left_behind(tmp_path) == []


def test_results_are_not_overwritten_unasked_nor_protected_again(photo, model, capsys):
    assert protect(photo, model=model) == 0
    before = photo.with_name("photo.protected.png").read_bytes()
    assert protect(photo.parent, model=model) == 0  # the folder's only photo; the result is none
    assert "skipped: " in capsys.readouterr().out
    assert photo.with_name("photo.protected.png").read_bytes() == before
    assert protect(photo, "--overwrite", model=model) == 0


def test_two_photos_of_one_name_do_not_overwrite_each_other(tmp_path, model):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(PORTRAIT, tmp_path / folder / "photo.png")
    assert protect(tmp_path / "a", tmp_path / "b", "--output", tmp_path / "out", "--overwrite", model=model) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_globs(tmp_path, model):
    for name in ("one.png", "two.png", "other.png"):
        shutil.copy(PORTRAIT, tmp_path / name)
    assert protect(f"{tmp_path}/*e.png", "--output", tmp_path / "out", model=model) == 0
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == ["one.protected.png"]


def test_nothing_to_protect_is_an_error(tmp_path, model, capsys):
    assert protect(tmp_path / "absent*.png", model=model) == 2
    assert "no photo at" in capsys.readouterr().err


class Payload:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


def damage(kind, folder, tmp_path):
    weights = folder / "model.safetensors"
    if kind == "missing":
        weights.unlink()
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif kind == "mismatched":
        state = load_file(weights)
        state["unknown"] = state.pop("prior")
        save_file(state, weights)
    elif kind == "pickled":
        weights.write_bytes(pickle.dumps(Payload(tmp_path / "payload-ran")))
    elif kind == "no config":
        (folder / "config.json").unlink()
    return folder


@pytest.mark.parametrize("kind", ["missing", "truncated", "mismatched", "pickled"])
def test_bad_weights_are_refused(kind, tmp_path, photo, model, capsys):
    folder = damage(kind, Path(shutil.copytree(model, tmp_path / "model")), tmp_path)
    assert protect(photo, model=folder) == 1
    loading, error = capsys.readouterr().err.splitlines(keepends=True)
    assert loading == "art-idguard: loading the networks ...\n"
    assert error.startswith("art-idguard: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "payload-ran").exists()
    assert not photo.with_name("photo.protected.png").exists()


def test_unreachable_hub_is_one_line(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert protect(photo, model="nobody/nothing") == 1
    loading, error = capsys.readouterr().err.splitlines(keepends=True)
    assert loading == "art-idguard: loading the networks ...\n"
    assert error.startswith("art-idguard: error: ")
    assert error.count("\n") == 1


def test_pickled_official_checkpoint_is_refused(tmp_path, photo, model, capsys):
    for name, content in (("a.ckpt", pickle.dumps(Payload(tmp_path / "payload-ran"))), ("b.ckpt", b"")):
        (tmp_path / name).write_bytes(content)
        assert protect(photo, model=model, check=f"stargan={tmp_path / name}") == 1
        assert name in capsys.readouterr().err
    assert not (tmp_path / "payload-ran").exists()


def test_help_is_quick_and_imports_nothing_heavy():
    script = (
        "import sys, contextlib, io\nfrom art_idguard.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['protect', '--help'])\n"
        "print({'torch', 'numpy', 'PIL', 'cv2', 'huggingface_hub', 'tqdm', 'art', 'gradio'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("command", ["", "push", "info", "protect", "train", "evaluate", "serve"])
def test_help_says_that_what_ships_has_names(command, capsys):
    with pytest.raises(SystemExit):
        main([*filter(None, [command]), "--help"])
    assert "if it ships, by its short name, such as protector, stargan" in " ".join(capsys.readouterr().out.split())


def test_train_names_bad_settings(tmp_path, capsys):
    assert main(["train", "--faces", "x"]) == 1
    assert "missing settings: output" in capsys.readouterr().err
    absent = str(tmp_path / "absent")
    assert main(["train", "--faces", str(tmp_path), "--manipulators", absent, "--output", str(tmp_path / "o")]) == 1
    assert "absent" in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        main(["train", "--masks", "quotient"])
    assert usage.value.code == 2


def test_info(model, capsys):
    assert main(["info", str(model)]) == 0
    text = capsys.readouterr().out
    assert "epsilon: 0.05 on [-1, 1], 0.025 on [0, 1]" in text
    assert "sha256: " in text
    assert main(["info"]) == 0
    assert "recognizers/sface" in capsys.readouterr().out
    assert main(["info", str(model.parent)]) == 1


@pytest.mark.slow
def test_evaluate_writes_a_report(tmp_path, model):
    faces = write_portraits(tmp_path / "faces", 3)
    for manipulator in tiny_manipulators(("stargan", "relgan")):
        manipulator.save_pretrained(tmp_path / manipulator.name)
    words = ["--manipulators", tmp_path / "stargan", tmp_path / "relgan", "--data", f"toy={faces}"]
    words += ["--protector", model, "--output", tmp_path / "report", "--edits", "cycle", "--reference-faces", "1"]
    words += ["--reference-steps", "3", "--refine-against", tmp_path / "stargan"]
    assert main(["evaluate", *map(str, words)]) == 1
    words += ["--refine", "1"]
    assert main(["evaluate", *map(str, words)]) == 0
    report = json.loads((tmp_path / "report" / "toy.json").read_text())
    rows = ["ID-Guard", "P-Pert", "ID-Guard, refined", "Brightness +epsilon", "±epsilon noise", *REFERENCES]
    assert list(report["summary"]) == rows
    assert all(f"| {row} |" in (tmp_path / "report" / "toy.md").read_text() for row in rows)
    assert (tmp_path / "report" / "toy.md").is_file()
    assert (tmp_path / "report" / "toy.png").is_file()


@pytest.mark.slow
def test_evaluate_at_calibrated_thresholds(tmp_path, model, monkeypatch, capsys):
    people = write_portraits(tmp_path / "people", 10)
    for i, path in enumerate(sorted(people.iterdir())):
        path.rename(people / f"Person_{'ABCDE'[i // 2]}_{i:04d}.png")
    (stargan,) = tiny_manipulators(("stargan",))
    stargan.save_pretrained(tmp_path / "stargan")
    words = ["--manipulators", tmp_path / "stargan", "--data", f"toy={people}", "--protector", model, "--limit", "2"]
    words += ["--output", tmp_path / "report", "--edits", "cycle"]
    assert main(["evaluate", *map(str, words)]) == 0
    measured = (tmp_path / "report" / "toy.jsonl").read_bytes()
    words += ["--calibrate", f"lfw={people}"]
    assert main(["evaluate", *map(str, words)]) == 1
    assert "40 pairs of different people are too few for a false accept rate of 1 in 100" in capsys.readouterr().err

    monkeypatch.setattr("art_idguard.evaluation.calibration.FALSE_ACCEPTS", {"1%": 4, "0.1%": 8})
    monkeypatch.setattr("art_idguard.evaluation.calibration.FEWEST", 1)
    assert main(["evaluate", *map(str, words)]) == 0
    assert (tmp_path / "report" / "toy.jsonl").read_bytes() == measured  # a threshold measures nothing anew
    report = json.loads((tmp_path / "report" / "toy.json").read_text())
    found = report["metadata"]["calibration"]
    assert (found["name"], found["path"], found["faces"], found["impostor_pairs"]) == ("lfw", "people", 10, 40)
    limits = report["metadata"]["thresholds"]["sface"]
    assert -1 < limits["1%"] < limits["0.1%"] <= 1
    assert {"misdirected@1%.sface", "misdirected@0.1%.sface"} < set(report["summary"]["ID-Guard"]["stargan"])
    assert "**Misdirected**" in (tmp_path / "report" / "toy.md").read_text()

    monkeypatch.setattr("art_idguard.evaluation.calibration.impostor_similarities", None)  # kept, not made again
    assert main(["evaluate", *map(str, words)]) == 0
    assert json.loads((tmp_path / "report" / "toy.json").read_text())["metadata"]["thresholds"]["sface"] == limits


def test_a_baseline_that_was_trained_on_the_evaluated_faces_is_told(tmp_path, model, monkeypatch):
    """A folder without parts has no other faces to train on."""
    monkeypatch.setattr(
        import_module("art_idguard.baselines.cmua"), "cmua", lambda *given, **options: torch.zeros(1, 3, 64, 64)
    )
    faces = write_portraits(tmp_path / "faces", 3)
    (stargan,) = tiny_manipulators(("stargan",))
    stargan.save_pretrained(tmp_path / "stargan")
    words = ["--manipulators", tmp_path / "stargan", "--data", f"toy={faces}", "--protector", model, "--limit", "2"]
    words += ["--output", tmp_path / "report", "--edits", "cycle", "--baselines", "cmua"]
    with pytest.warns(UserWarning, match="baselines were trained on 2 of the 2 faces of toy, .* --baseline-faces"):
        assert main(["evaluate", *map(str, words)]) == 0


@pytest.mark.slow
def test_evaluate_after_lossy_operations(tmp_path, model, capsys):
    faces = write_portraits(tmp_path / "faces", 2)
    (stargan,) = tiny_manipulators(("stargan",))
    stargan.save_pretrained(tmp_path / "stargan")
    words = ["--manipulators", tmp_path / "stargan", "--data", f"toy={faces}", "--protector", model]
    words += ["--output", tmp_path / "report", "--edits", "cycle", "--operations"]
    assert main(["evaluate", *map(str, words), "none", "jpeg=30"]) == 0
    table = (tmp_path / "report" / "toy.md").read_text()
    assert "| stargan, none L2_face↑ |" in table
    assert "| stargan, jpeg=30 L2_face↑ |" in table
    assert main(["evaluate", *map(str, words), "rain"]) == 1
    assert "unknown operation 'rain'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "config", ["{", "[]", "{}", '{"model_type": "stargan"}', '{"model_type": "protector", "epsilon": "x"}']
)
def test_bad_configs_are_one_line_errors(tmp_path, photo, model, capsys, config):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    (folder / "config.json").write_text(config)
    assert protect(photo, model=folder) == 1
    loading, error = capsys.readouterr().err.splitlines(keepends=True)
    assert loading == "art-idguard: loading the networks ...\n"
    assert error.startswith("art-idguard: error: ")
    assert error.count("\n") == 1


def test_a_glob_leaves_our_own_results_out(photo, model):
    pattern = f"{photo.parent}/*.png"
    assert protect(pattern, model=model) == 0
    assert protect(pattern, "--overwrite", model=model) == 0
    assert sorted(p.name for p in photo.parent.glob("*.png")) == ["photo.png", "photo.protected.png"]


def test_a_faceless_photo_as_a_whole_has_nothing_to_show_and_is_no_failure(tmp_path, model):
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "plain.png")
    assert protect(tmp_path / "plain.png", "--whole", "--show", model=model) == 0
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["plain.png", "plain.protected.png"]


def test_ctrl_c_is_no_traceback_however_early_it_comes(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_parser", interrupt)
    assert main(["info", "stargan"]) == 130
    assert capsys.readouterr().err == "art-idguard: interrupted\n"
