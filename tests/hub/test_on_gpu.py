"""hub/on_gpu.sh: what it names is there, its plan fits, and a pack and a result arrive as they were sent."""

import json
import re
import shlex
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from art_idguard import cli
from art_idguard.data.reading import read_faces
from art_idguard.manipulators import load as load_manipulator
from art_idguard.manipulators.stargan_family import Discriminator
from art_idguard.recognizers import load as load_recognizer
from art_idguard.regions import heat_maps
from art_idguard.training.manipulator.config import ManipulatorConfig
from art_idguard.training.protector.config import ProtectorConfig
from tests import ROOT
from tests.toys import tiny, tiny_manipulators, write_labels, write_portraits

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "hub")
    import for_gpu
    import on_gpu

SCRIPT = (ROOT / "hub" / "on_gpu.sh").read_text()
CALLS = re.findall(r"hub/on_gpu\.sh ([a-z]+ [^`#|]*)", (ROOT / "hub" / "TRAINING.md").read_text())
"""As hub/TRAINING.md has them."""


def packed_names():
    given = [for_gpu.command_line().parse_args(shlex.split(call)) for call in CALLS if call.startswith("pack")]
    return [options.names or for_gpu.DEFAULT for options in given]


def test_documents_name_what_the_script_does():
    usage = subprocess.run(["bash", ROOT / "hub" / "on_gpu.sh"], check=True, capture_output=True, text=True).stdout
    named = set(re.findall(r"hub/on_gpu\.sh (\w+)", usage)) | {call.split()[0] for call in CALLS}
    assert named == {"pack", "run", "fetch", "rehearse"}
    assert all(re.search(rf"\b{word}\b", SCRIPT.partition("case ")[2]) for word in named)


def test_the_plan_fits_the_minutes_of_a_machine():
    parts = on_gpu.plan(for_gpu.DEFAULT, for_gpu.RECIPES)
    assert sum(part.minutes for part in parts) + on_gpu.CHECK + on_gpu.SAVING <= 12
    assert sum(on_gpu.CALLS) <= 12
    assert max(on_gpu.CALLS) < 10
    assert [part.minutes for part in parts] == [3, 4, 2.5]
    assert re.findall(r"run OUT (\d)", SCRIPT)[:2] == [f"{minutes:g}" for minutes in on_gpu.CALLS]
    assert "12.0 min  in calls of 9 and 3 minutes" in on_gpu.table(parts)
    with pytest.raises(SystemExit, match="take 12 minutes and more: none is left for protector-gpu; pack fewer"):
        on_gpu.plan(["hisd-celeba128", "protector-gpu"], for_gpu.RECIPES)


@pytest.mark.parametrize("names", [for_gpu.DEFAULT, *packed_names()], ids=" ".join)
def test_recipes_options_and_files_exist(names):
    made = set()
    for part in on_gpu.plan(names, for_gpu.RECIPES):
        words = part.words([*on_gpu.FEW, "--output=runs/check", *for_gpu.TINY, "--minutes=1"])
        given = vars(cli._parser().parse_args(words))
        recipe, train, _, _ = (given.pop(name) for name in ("recipe", "run", "resume", "modules"))
        config = {"_train": ProtectorConfig, "_train_manipulator": ManipulatorConfig}[train.__name__]
        del given["quiet"]
        settings = config.from_recipe(ROOT / recipe, **given)
        assert settings.faces == "data/celeba128"
        assert part.output == on_gpu.WORK / config.from_recipe(ROOT / recipe).output
        for network in for_gpu.networks(part.recipe):
            assert network in made or network.startswith("weights/") or (ROOT / network / "config.json").is_file()
        made.add(part.result)


def test_eight_bits_a_weight():
    state = tiny("stargan").half().state_dict() | {"prior": torch.rand(1, 3, 4, 4), "count": torch.tensor(3)}
    packed = on_gpu.quantised(state)
    back = on_gpu.restored(packed)
    assert back.keys() == state.keys()
    for name, value in state.items():
        if f"{name}.scale" not in packed:
            assert value.dim() < 2 or len(value) == 1
            assert torch.equal(back[name], value)
            continue
        assert packed[name].dtype == torch.int8
        largest = value.float().flatten(1).abs().amax(1)
        error = (back[name].float() - value.float()).flatten(1).abs().amax(1)
        assert (error <= 0.505 * largest / 127 + 1e-3 * largest).all()  # half a step, and the rounding to fp16


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout and a machine in a folder, for both halves."""
    places = {"ROOT": tmp_path, "PACK": tmp_path / ".pack", "WORK": tmp_path / "there"}
    places |= {"RECIPES": tmp_path / "hub" / "recipes", "FETCHED": tmp_path / "runs" / "on_gpu"}
    for module in (on_gpu, for_gpu):
        for name in places.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, places[name])
    monkeypatch.setattr(for_gpu, "size_of_checkout", lambda: 0)
    monkeypatch.setattr(for_gpu.Packer, "add_packages", lambda self: None)
    places["RECIPES"].mkdir(parents=True)
    for model in (*tiny_manipulators(("stargan",)), tiny("sface")):
        model.save_pretrained(tmp_path / "hub" / model.name)
    save_file(tiny("mobilefacenet").state_dict(), tmp_path / "second.safetensors")
    write_labels(write_portraits(tmp_path / "faces", 12))
    recipe = {"faces": '"data/celeba128"', "output": '"runs/protector"', "manipulators": '["hub/stargan"]'}
    recipe |= {"recognizers": '["hub/sface", "mobilefacenet=weights/second.safetensors"]', "minutes": "1"}
    recipe |= {"regions": '"runs/regions.safetensors"', "size": "64"}
    lines = [f"{name} = {value}" for name, value in recipe.items()]
    (places["RECIPES"] / "protector.toml").write_text("\n".join(lines))
    return tmp_path


def test_a_pack_has_all_that_a_training_needs_without_art_opencv_and_torchcam(checkout, monkeypatch, capsys):
    monkeypatch.setattr(for_gpu, "MOST", 250_000)
    for_gpu.pack(checkout / "faces", ["protector"], weights=checkout, transfers=4)
    assert "12 faces" in capsys.readouterr().out
    assert for_gpu.packed_names() == ["protector"]
    there, (first, *others) = checkout / "there", sorted(on_gpu.PACK.iterdir())
    assert others
    monkeypatch.setattr(on_gpu, "check", lambda parts, options: {"gpu": None})
    monkeypatch.setattr(on_gpu, "train", lambda part, options, *, seconds: 1)
    others = [other.rename(checkout / other.name) for other in others]
    on_gpu.run(checkout, 5, ["--steps=1"])
    assert f"{first.name}: the rest of the pack has to come" in capsys.readouterr().out
    for other in others:
        other.rename(on_gpu.PACK / other.name)
    on_gpu.run(checkout, 5, ["--steps=1"])
    assert not (there / "protector.done").exists()  # it failed: the next call tries again
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "torchcam", None)
    sface = load_recognizer(there / "hub" / "sface")
    regions = there / "runs" / "regions.safetensors"
    faces = heat_maps(read_faces(there / "data" / "celeba128", size=64, cache=regions), sface, cache=regions)
    assert len(faces) == 12
    assert faces.attributes.sum() > 0
    load_recognizer(f"mobilefacenet={there}/weights/second.safetensors", width=4)
    load_manipulator(there / "hub" / "stargan")


def test_a_part_starts_from_what_an_earlier_one_made(checkout, monkeypatch):
    """Until that is trained, the self-check starts it from where the earlier one starts."""
    tiny("protector").save_pretrained(checkout / "hub" / "start")
    first = (for_gpu.RECIPES / "protector.toml").read_text()
    second = first.replace('"runs/protector"', '"runs/second"') + '\nstart = "runs/protector/protector"\n'
    (for_gpu.RECIPES / "protector.toml").write_text(f'{first}\nstart = "hub/start"\n')
    (for_gpu.RECIPES / "second.toml").write_text(second.replace('["hub/stargan"]', '["photo"]'))
    for_gpu.pack(checkout / "faces", names := ["protector", "second"], weights=checkout)
    asked = []
    monkeypatch.setattr(on_gpu, "train", lambda part, options, *, seconds: asked.append([part.name, *options]) or 0)
    monkeypatch.setattr(on_gpu, "deliver", lambda part, *, whole: None)
    (on_gpu.WORK / "outbox").mkdir(parents=True)
    (checkout / "out").mkdir()
    on_gpu.run(checkout / "out", 5, ["--steps=1"])
    checks, runs = asked[:2], asked[2:]
    assert [name for name, *_ in checks] == [name for name, *_ in runs] == names
    assert [word for word in checks[1] if word.startswith("--start")] == ["--start=hub/start"]
    assert not any(word.startswith("--start") for words in (checks[0], *runs) for word in words)
    assert (on_gpu.WORK / "hub" / "start" / "model.safetensors").is_file()


def test_what_is_too_much_or_missing_is_said(checkout, monkeypatch):
    with pytest.raises(SystemExit, match=r"no pack is in .*pack and none has come before"):
        on_gpu.run(checkout, 5, ["--steps=1"])
    with pytest.raises(SystemExit, match=r"no weights/second\.safetensors here; .* --weights"):
        for_gpu.pack(checkout / "faces", ["protector"])
    monkeypatch.setattr(for_gpu, "MOST", 200_000)
    with pytest.raises(SystemExit, match=r"the networks take 0\.\d of 0\.2 MB; pack fewer recipes at a time"):
        for_gpu.pack(checkout / "faces", ["protector"], weights=checkout)


def test_results_come_back_over_several_calls(checkout, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu, "FILE", 40_000)
    monkeypatch.setattr(on_gpu, "BACK", 130_000)
    part = on_gpu.Part("stargan", {"manipulator": "stargan", "output": "runs/stargan"}, 1.0)
    torch.manual_seed(0)
    generator, discriminator = tiny("stargan"), Discriminator(size=64, channels=8)
    generator.save_pretrained(part.output / "manipulator")
    save_file(discriminator.half().state_dict(), part.output / "discriminator.safetensors")
    (part.output / "log.jsonl").write_text("{}\n")
    on_gpu.deliver(part, whole=False)
    small = len(list((checkout / "there" / "outbox").iterdir()))
    on_gpu.deliver(part, whole=True)
    assert len(list((checkout / "there" / "outbox").iterdir())) > small
    models, calls = [], 0
    while not models:
        (out := checkout / f"call-{calls}").mkdir()
        on_gpu.send(out)
        assert sum(file.stat().st_size for file in out.iterdir()) <= on_gpu.BACK
        models, calls = for_gpu.fetch(out, for_gpu.FETCHED), calls + 1
    assert calls > 1
    assert "wait for a further call of run" in capsys.readouterr().out
    assert not list(for_gpu.FETCHED.glob("*-of-*"))
    fetched = load_manipulator(models[0])
    for name, value in generator.state_dict().items():
        assert torch.equal(fetched.state_dict()[name], value.half() if value.is_floating_point() else value)
    assert len(json.loads((models[0] / "config.json").read_text())["sha256"]) == 64
    (further := checkout / "further").mkdir()  # a next call brings a part of a newer one
    (further / f"{models[0].parent.name}.tar.01-of-02").write_bytes(b"part")
    assert for_gpu.fetch(further, for_gpu.FETCHED) == []
    assert load_manipulator(models[0])
    (for_gpu.RECIPES / "stargan.toml").write_text('manipulator = "stargan"\nstart = "none"\n')
    (further := checkout / "on.toml").write_text(for_gpu.recipe_text(part, on=True))
    settings = ManipulatorConfig.from_recipe(further, faces="faces", output="runs")
    assert checkout / settings.start == models[0]
    Discriminator(size=64, channels=8).load_state_dict(load_file(checkout / settings.start_discriminator))
