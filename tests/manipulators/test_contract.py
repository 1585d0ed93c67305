"""The contract of every manipulator, and how weights get into it."""

import csv
import io
import json
import tarfile
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.images import from_array
from art_idguard.manipulators import MANIPULATORS, HiSD, RelGAN, load
from art_idguard.manipulators.layers import moments, scale_and_shift
from art_idguard.manipulators.relgan import SwitchNorm
from art_idguard.manipulators.stargan_family import edited_labels
from art_idguard.types import ATTRIBUTES, Edit

SMALL_HISD = {
    "widths": [8, 8, 16],
    "style_widths": [8, 8, 8],
    "style": 8,
    "noise": 4,
    "translator_width": 8,
}
SMALL = {
    "hisd": SMALL_HISD,
    "dpr": {"channels": 4},
    "taef2": {"channels": 8, "latent": 4},
    "celeba_vae": {"channels": 4},
    "tinybeauty": {"channels": 4},
}
FEATURES = {"dpr": 2, "taef2": 4, "celeba_vae": 1, "tinybeauty": 64}
"""Side of E_k's features of 32 pixels; a quarter elsewhere."""
EDITS = {"taef2": 1, "celeba_vae": 11, "tinybeauty": 1}
"""How many; five elsewhere."""
LABELS = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 0, 0, 1]])


def config(name):
    return SMALL.get(name, {"channels": 8, "blocks": 4})


def loaded_from(path, name):
    """Of a file that is not the published one, where there is one."""
    published = MANIPULATORS[name].published
    with pytest.warns(UserWarning, match="other weights than") if published else nullcontext():
        return load(f"{name}={path}", **config(name))


def small(name):
    torch.manual_seed(0)
    model = MANIPULATORS[name](**config(name))
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_var"):
            buffer.fill_(0.5)
    return model


def faces(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(params=MANIPULATORS)
def model(request):
    return small(request.param)


def test_one_forward_gives_face_and_features_for_each_edit(model):
    edits = model.edits(LABELS)
    assert len({edit.name for edit in edits}) == len(edits) == EDITS.get(model.name, 5)
    for edit in edits:
        assert len(edit.condition) == 2
        output, features = model(faces(), edit)
        assert output.shape == (2, 3, 32, 32)
        assert features.shape[2:] == (FEATURES.get(model.name, 8),) * 2


def test_edits_differ(model):
    outputs = [model(faces(), edit).output for edit in model.edits(LABELS)]
    for i, output in enumerate(outputs):
        assert all((output - other).abs().max() > 1e-5 for other in outputs[:i])


@torch.no_grad()
def test_mode_does_not_matter(model):
    edit = model.edits(LABELS)[0]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train, evaluation = (model.train(mode)(faces(), edit) for mode in (True, False))
    assert torch.equal(train.output, evaluation.output)
    assert torch.equal(train.features, evaluation.features)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@torch.no_grad()
def test_faces_do_not_influence_each_other(model):
    edit = model.double().edits(LABELS.double())[-1]
    both = model(faces().double(), edit).output
    alone = model(faces()[:1].double(), Edit(edit.name, edit.condition[:1])).output
    torch.testing.assert_close(both[:1], alone, rtol=0, atol=1e-10)


def test_gradient_reaches_the_face(model):
    x = faces().requires_grad_()
    output, features = model.requires_grad_(False)(x, model.edits(LABELS)[0])
    for scalar in (output.square().sum(), features.square().sum()):
        (gradient,) = torch.autograd.grad(scalar, x, retain_graph=True)
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.9


def test_gradient_is_the_derivative(model):
    model = model.double().requires_grad_(False)
    x = faces(max(16, 2 * model.multiple))[:1].double()
    edit = model.edits(LABELS[:1].double())[0]
    direction, weights = torch.randn(2, *x.shape, dtype=x.dtype)

    def along(step):
        return (weights * model(x + step * direction, edit).output).sum()

    step = torch.zeros((), dtype=x.dtype, requires_grad=True)
    assert torch.autograd.gradcheck(along, step, eps=1e-7, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_face(model, dtype):
    model = model.to(dtype)
    output, features = model(faces().to(dtype), model.edits(LABELS.to(dtype))[0])
    assert output.dtype == features.dtype == dtype


@torch.no_grad()
def test_autocast_stays_close(model):
    edit = model.edits(LABELS)[0]
    exact = model(faces(), edit).output
    with torch.autocast("cpu", torch.bfloat16):
        output = model(faces(), edit).output
    assert output.dtype == torch.float32
    assert (output - exact).abs().mean() < 0.05 * exact.abs().mean()


@torch.no_grad()
def test_saved_and_loaded_is_bit_identical(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == model.name
    loaded = load(tmp_path)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    edit = model.edits(LABELS)[0]
    assert torch.equal(loaded.edits(LABELS)[0].condition, edit.condition)
    assert torch.equal(loaded(faces(), edit).output, model(faces(), edit).output)


NESTINGS = {
    "flat": lambda state: state,
    "G": lambda state: {"G": state, "D": {}, "optimG": {"lr": 1e-4}},
    "gen_test": lambda state: {"gen": {}, "gen_test": state},
    "module": lambda state: {f"module.{k}": v for k, v in state.items()},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    "uncounted": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_official_files_load(model, nesting, tmp_path):
    torch.save(NESTINGS[nesting](model.state_dict()), tmp_path / "G.ckpt")
    loaded = loaded_from(tmp_path / "G.ckpt", model.name)
    assert not loaded.training
    for key, value in model.state_dict().items():
        tolerance = 1e-3 if nesting == "half" else 0
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != next(iter(s))}, "1 missing"),
        (lambda s: {**s, "surplus": torch.zeros(1)}, "1 unknown .*surplus"),
        (lambda s: {**s, next(iter(s)): torch.zeros(1, 1)}, "of another shape"),
        (lambda s: {**s, "step": 3}, "holds no state_dict"),
        (lambda s: list(s), "holds no state_dict"),
    ],
)
def test_ill_fitting_weights_are_refused(model, spoil, message, tmp_path):
    torch.save(spoil(model.state_dict()), tmp_path / "G.ckpt")
    with pytest.raises(WeightsError, match=message):
        model.from_checkpoint(tmp_path / "G.ckpt", **config(model.name))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_holds_code_is_refused(tmp_path, zipped):
    victim = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return open, (str(victim), "w")

    torch.save(
        {"main.0.weight": Payload()},
        tmp_path / "G.ckpt",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(WeightsError, match="refused"):
        load(f"stargan={tmp_path / 'G.ckpt'}")
    assert not victim.exists()


def test_truncated_and_absent_files_are_refused(tmp_path):
    path = tmp_path / "G.ckpt"
    torch.save(small("stargan").state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"G\.ckpt"):
        load(f"stargan={path}")
    with pytest.raises(WeightsError, match="no weights file"):
        load(f"stargan={tmp_path / 'absent.ckpt'}")


def test_unknown_names_list_the_choices(tmp_path):
    with pytest.raises(IDGuardError, match=f"there is no 'stargun' among: {'.*'.join(MANIPULATORS)}"):
        load("stargun=G.ckpt")
    with pytest.raises(WeightsError, match="name=file"):
        load(tmp_path)  # a folder without config.json
    (tmp_path / "config.json").write_text('{"model_type": "sface"}')
    with pytest.raises(IDGuardError, match="unknown model 'sface'"):
        load(tmp_path)
    with pytest.raises(IDGuardError, match="no edit 'Wings'; choose from: Bangs"):
        small("hisd").edit_from_reference("Wings", faces())


def test_edited_labels_follow_stargans_rule():
    black, blond, brown, male, young = edited_labels(LABELS)
    assert [edit.name for edit in edited_labels(LABELS)] == list(ATTRIBUTES)
    assert black.condition.tolist() == [[1, 0, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert blond.condition.tolist() == [[0, 1, 0, 1, 0], [0, 1, 0, 0, 1]]
    assert brown.condition.tolist() == [[0, 0, 1, 1, 0], [0, 0, 1, 0, 1]]
    assert male.condition.tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 1, 1]]
    assert young.condition.tolist() == [[1, 0, 0, 1, 1], [0, 1, 0, 0, 0]]


def test_relgan_edits_are_target_minus_source_whatever_the_sign():
    model = small("relgan")
    black, _, _, male, _ = model.edits(LABELS)
    assert black.condition.tolist() == [[0, 0, 0, 0, 0], [1, -1, 0, 0, 0]]
    assert male.condition.tolist() == [[0, 0, 0, -1, 0], [0, 0, 0, 1, 0]]
    reverse = RelGAN(**config("relgan"), sign=-1)
    reverse.load_state_dict(model.state_dict())
    opposite = Edit("", -male.condition)
    assert torch.equal(reverse(faces(), male).output, model(faces(), opposite).output)


def test_switch_norm_follows_the_batch_only_when_asked_to():
    norm, x = SwitchNorm(3).double(), torch.randn(4, 3, 5, 7, dtype=torch.float64)
    norm.use_batch_statistics = True
    output = norm(x)
    maps = x.flatten(2)
    # pooled variance = mean of the maps' variances + variance of the maps' means
    instance = maps.var(2)
    pooled = instance.mean(0) + maps.mean(2).var(0, correction=0)
    torch.testing.assert_close(norm.running_mean.flatten(), 0.1 * maps.mean((0, 2)))
    torch.testing.assert_close(norm.running_var.flatten(), 0.1 * pooled)
    layer = instance.mean(1, keepdim=True) + maps.mean(2).var(1, correction=0, keepdim=True)
    mean = (maps.mean(2) + maps.mean((1, 2))[:, None] + maps.mean((0, 2))) / 3
    std = ((instance + layer + pooled) / 3 + 1e-5).sqrt()
    torch.testing.assert_close(output, (x - mean[..., None, None]) / std[..., None, None])


@given(mean=st.floats(-3, 3), std=st.floats(0.1, 3), side=st.integers(2, 9), seed=st.integers(0, 99))
def test_moments_are_mean_and_variance(mean, std, side, seed):
    x = mean + std * torch.randn(
        2, 3, side, side + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    var, average = torch.var_mean(x, (2, 3))
    found_mean, found_var = moments(x)
    torch.testing.assert_close(found_mean, average, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found_var, var, rtol=1e-9, atol=1e-9)
    scaled = scale_and_shift(x, var, average)
    torch.testing.assert_close(scaled, x * var[..., None, None] + average[..., None, None])


def test_a_constant_picture_gives_finite_gradients():
    model = small("hisd")
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    model(x, model.edits(LABELS[:1])[0]).output.sum().backward()
    assert x.grad.isfinite().all()


def test_one_reference_of_any_shape_serves_all_faces():
    model = small("hisd")
    edit = model.edit_from_reference("Eyeglasses", torch.rand(1, 3, 24, 40))
    each = Edit(edit.name, edit.condition.expand(2, -1))
    torch.testing.assert_close(model(faces(), edit).output, model(faces(), each).output)


def test_hisd_edits_depend_on_the_seed_alone():
    model, other = small("hisd"), HiSD(**SMALL_HISD, seed=1)
    other.load_state_dict(model.state_dict())
    first, again, different = (m.edits(LABELS)[0].condition for m in (model, model, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, different)


MEAN_CHANGE = {
    # mean absolute difference to the photo over 2 test faces, by edit, as measured
    "stargan": (0.101, 0.248, 0.119, 0.136, 0.157),
    "attentiongan": (0.045, 0.042, 0.022, 0.029, 0.034),
    "fpgan": (0.067, 0.067, 0.041, 0.051, 0.049),
    "relgan": (0.085, 0.080, 0.063, 0.052, 0.043),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEAN_CHANGE)
@torch.no_grad()
def test_trained_weights_edit_real_faces(name, shared):
    folder = shared / "data" / "celeba128"
    with (folder / "test.csv").open() as table:
        rows = [row for row, _ in zip(csv.DictReader(table), range(2), strict=False)]
    with tarfile.open(folder / "test-0.tar") as tar:
        pictures = [Image.open(io.BytesIO(tar.extractfile(row["file"]).read())) for row in rows]
        x = from_array(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
    labels = torch.tensor([[float(row[name]) for name in ATTRIBUTES] for row in rows])
    file = name.replace("attentiongan", "aggan") + "-celeba128.ckpt"
    model = load(f"{name}={shared / 'weights' / 'manipulators' / file}")
    outputs = [model(x, edit).output for edit in model.edits(labels)]
    changes = torch.stack([(output - x).abs().mean() for output in outputs])
    torch.testing.assert_close(changes, torch.tensor(MEAN_CHANGE[name]), rtol=0.1, atol=0)
    black, blond = outputs[:2]
    assert ((blond - black).mean((1, 2, 3)) > 0).all()
