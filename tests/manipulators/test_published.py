"""Manipulators whose weights their authors publish: values with the real files, and what is made of other files."""

import math
import re
import shutil

import pytest
import torch
from kornia.color import rgb_to_lab

from art_idguard.cli import main
from art_idguard.errors import WeightsError
from art_idguard.files.digests import sha256
from art_idguard.hub.loading import weights_sha256
from art_idguard.images import resize, to_unit
from art_idguard.manipulators import DPR, MANIPULATORS, TAEF2, load
from art_idguard.manipulators.dpr import LIGHTS, STRENGTH
from art_idguard.types import Edit
from tests.golden import check

FILES = {
    "dpr": "dpr-512.t7",
    "taef2": "taef2_encoder.pth",
    "celeba_vae": "celeba-vae64.pt",
    "tinybeauty": "tinybeauty-style1.pt",
}
ROW = torch.zeros(1, 5, dtype=torch.float64)


@pytest.fixture
def official(shared):
    return lambda name: load(f"{name}={shared / 'weights' / 'published' / FILES[name]}").double()


def waves(side):
    """The goldens' picture."""
    y, x = torch.meshgrid(*[torch.linspace(0, 1, side, dtype=torch.float64)] * 2, indexing="ij")
    return 0.8 * torch.stack([(6 * x + 2 * y).sin(), (5 * y - x).cos(), (3 * x * y + 1).sin()])[None]


def test_every_published_manipulator_is_tried():
    assert FILES.keys() == {name for name, kind in MANIPULATORS.items() if kind.published}


# --- the real files, which load without a warning: their sha256 are those that `published` has ---


@torch.no_grad()
def test_dpr_goldens(official):
    model = official("dpr")
    lightness, features = model.relight(to_unit(waves(256)[:, :1]), model.edits(ROW)[0].condition)
    check(lightness, "dpr_published", "lightness")
    check(features, "dpr_published", "features")
    check(model.light.estimate(features)[:, :, None, None], "dpr_published", "light")


@torch.no_grad()
def test_taef2_goldens(official):
    output, features = official("taef2")(waves(128), Edit("", ROW[:, :0]))
    check(features, "taef2_published", "features")
    check(to_unit(output), "taef2_published", "output")


@torch.no_grad()
def test_celeba_vae_goldens(official):
    model = official("celeba_vae")
    mu, logvar = model.encoder(to_unit(waves(64)))
    output, features = model(waves(64), model.edits(ROW)[0])
    check(mu, "celeba_vae_published", "features")
    check(logvar, "celeba_vae_published", "logvar")
    check(to_unit(output), "celeba_vae_published", "output")
    assert torch.equal(features[:, :, 0, 0], mu)


@torch.no_grad()
def test_tinybeauty_goldens(official):
    model = official("tinybeauty")
    output, features = model(waves(256), model.edits(ROW)[0])
    check(model.draw(waves(256)).output, "tinybeauty_published", "residual")
    check(output, "tinybeauty_published", "output")
    check(features, "tinybeauty_published", "features")


# --- the models ---


@torch.no_grad()
def test_dpr_keeps_the_colour_and_leads_back_to_the_light_that_it_sees():
    model, x = DPR(channels=2).double(), 0.1 * waves(32)
    edit = model.edits(ROW)[0]
    output, features = model(x, edit)
    before, after = (rgb_to_lab(to_unit(picture)) for picture in (x, output))
    torch.testing.assert_close(after[:, 1:], before[:, 1:], rtol=0, atol=0.05)
    assert (after[:, 0] - before[:, 0]).abs().mean() > 1
    assert torch.equal(model.inverse_edit(edit, x, ROW).condition, model.light.estimate(features))


def test_dpr_has_five_lights_that_go_around_the_face():
    edits = DPR(channels=2).edits(ROW.expand(3, -1))
    assert [edit.name for edit in edits] == [f"light_0{i}" for i in range(1, 6)]
    for edit in edits:
        assert torch.equal(edit.condition, STRENGTH * torch.tensor([LIGHTS[edit.name]] * 3, dtype=torch.float64))
    turns = [math.atan2(light[3], light[2]) for light in LIGHTS.values()]
    steps = [(b - a) % (2 * math.pi) for a, b in zip(turns, turns[1:] + turns[:1], strict=True)]
    assert all(step == pytest.approx(2 * math.pi * 6 / 7, abs=1e-3) for step in steps)


@pytest.mark.parametrize(("name", "side"), [("celeba_vae", 64), ("tinybeauty", 256)])
@torch.no_grad()
def test_a_size_of_its_own_is_resampled_to_and_from(name, side):
    model = MANIPULATORS[name](channels=2)
    edit = model.edits(ROW.float())[-1]
    x = waves(96)[:, :, :80].float()
    own = model(resize(x, (side, side)), edit)
    output, features = model(x, edit)
    torch.testing.assert_close(output, resize(own.output, (80, 96)))
    torch.testing.assert_close(features, own.features)


# --- files ---


def as_official(model):
    """DPR's tensors as its file has them: inner modules under every name, and shortcuts that nothing uses."""
    state = dict(model.state_dict())
    for inner, outer in (("light", "HG0"), ("HG0", "HG1"), ("HG1", "HG2"), ("HG2", "HG3")):
        inside = {key: value for key, value in state.items() if key.startswith(f"{inner}.")}
        state |= {f"{outer}.middle.{key.removeprefix(f'{inner}.')}": value for key, value in inside.items()}
    unused = ("HG0.upper", "HG1.upper", "HG1.middle.upper", "HG3.upper", "HG3.low1", "HG3.low2")
    return state | {f"{block}.shortcuts.weight": torch.ones(2, 2, 1, 1) for block in unused}


def test_the_many_names_of_a_tensor_of_dpr_are_one(tmp_path):
    model, path = DPR(channels=2), tmp_path / "trained.t7"
    state = as_official(model)
    assert "HG3.middle.middle.middle.middle.post_FC1.weight" in state
    torch.save(state, path)
    with pytest.warns(UserWarning, match="other weights"):
        loaded = load(f"dpr={path}", channels=2)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    deep = "HG2.middle.middle.low1.conv1.weight"
    torch.save(state | {deep: state[deep] + 1}, path)
    with pytest.raises(WeightsError, match=r"trained\.t7: .*HG0\.low1\.conv1\.weight.* values differ"):
        load(f"dpr={path}", channels=2)


def write_two(folder, model, prefix="tiny"):
    for part in ("encoder", "decoder"):
        torch.save(getattr(model, part).state_dict(), folder / f"{prefix}_{part}.pth")


@pytest.mark.parametrize("spec", ["", "tiny_encoder.pth"])
@pytest.mark.parametrize("sizes", [{"latent": 3, "pool": False}, {"latent": 2}])
def test_two_files_of_taef2_say_their_sizes(sizes, spec, tmp_path):
    model = TAEF2(channels=4, **sizes).eval()
    write_two(tmp_path, model)
    with pytest.warns(UserWarning, match="other weights"):
        loaded = load(f"taef2={tmp_path / spec}", channels=4)
    x = waves(16).float()
    (edit,) = model.edits(ROW.float())
    assert torch.equal(loaded(x, edit).output, model(x, edit).output)
    hashes = [sha256(tmp_path / f"tiny_{part}.pth") for part in ("encoder", "decoder")]
    assert weights_sha256(f"taef2={tmp_path / spec}") == ", ".join(hashes)
    assert weights_sha256(f"taef2={tmp_path / 'absent.pth'}") is None


def test_half_of_taef2_or_one_of_several_is_refused(tmp_path):
    write_two(tmp_path, TAEF2(channels=4))
    write_two(tmp_path, TAEF2(channels=4), "other")
    with pytest.raises(WeightsError, match=r"no weights file.*Expected taef2_encoder"):
        load(f"taef2={tmp_path}", channels=4)
    (tmp_path / "tiny_decoder.pth").unlink()
    with pytest.raises(
        WeightsError, match=r"missing \(encoder\.0\.weight.*Expected taef2_encoder\.pth .* and taef2_dec"
    ):
        load(f"taef2={tmp_path / 'tiny_encoder.pth'}", channels=4)
    shutil.copy(tmp_path / "other_encoder.pth", tmp_path / "tiny_decoder.pth")
    with pytest.raises(WeightsError, match="does not fit TAEF2"):
        load(f"taef2={tmp_path / 'tiny_encoder.pth'}", channels=4)


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_refused_with_what_was_expected(name, tmp_path):
    torch.save({"main.weight": torch.zeros(2)}, tmp_path / "wrong.pt")
    published = MANIPULATORS[name].published
    with pytest.raises(WeightsError, match="1 unknown") as caught:
        load(f"{name}={tmp_path / 'wrong.pt'}")
    for said in (published.source, *published.files, *published.files.values()):
        assert said in str(caught.value)


def test_other_weights_load_with_a_warning_of_both_hashes(tmp_path):
    path = tmp_path / "other.pt"
    torch.save(MANIPULATORS["tinybeauty"](channels=2).state_dict(), path)
    (expected,) = MANIPULATORS["tinybeauty"].published.files.values()
    with pytest.warns(UserWarning, match=f"{re.escape(str(path))}.*{sha256(path)}.*{expected}"):
        load(f"tinybeauty={path}", channels=2)


def test_the_name_alone_says_what_to_get():
    with pytest.raises(
        WeightsError, match=r"dpr does not ship: get trained_model.*zhhoper/DPR, and name it as dpr=FILE"
    ):
        load("dpr")


@pytest.mark.parametrize("name", FILES)
def test_info_says_where_to_get_it(name, capsys):
    assert main(["info", name]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    published = MANIPULATORS[name].published
    assert lines["source"] == published.source
    assert lines["sha256"].split(", ") == list(published.files.values())
    assert lines["terms"] == published.terms
    assert lines["use"].startswith(f"--manipulators {name}=path/to/")
    assert main(["info"]) == 0
    assert name in dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())["published elsewhere"]


def test_info_of_a_folder_of_that_name_is_of_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    DPR(channels=2).save_pretrained("dpr")
    assert main(["info", "dpr"]) == 0
    assert "(verified)" in capsys.readouterr().out
