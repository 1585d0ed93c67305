"""Models on the Hub, end to end against a server on loopback; and model folders that are malformed or hostile."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard, close_session
from safetensors.torch import load_file, save_file

from art_idguard.cli import main
from art_idguard.errors import WeightsError
from art_idguard.hub import cards
from art_idguard.hub.loading import load_member
from art_idguard.manipulators import MANIPULATORS
from art_idguard.models.loading import MODELS, load
from art_idguard.perturbation import Protector
from tests import ROOT
from tests.hub.server import STATUS, serving
from tests.toys import PORTRAIT, tiny

# huggingface_hub hands its uploads to httpx by an argument that httpx warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SHIPPED = sorted(path.parent for path in (ROOT / "hub").glob("*/*/card.toml"))
ID = "someone/model"


def same(a, b):
    return a.state_dict().keys() == b.state_dict().keys() and all(
        torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items()
    )


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server, as if HF_ENDPOINT and HF_HUB_CACHE had been set before the start."""
    with serving() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between retries
        yield server


@pytest.fixture
def pushed(hub):
    model = tiny()
    model.push_to_hub(ID)
    return model


def pull(**options):
    return MANIPULATORS["stargan"].from_pretrained(ID, **options)


# --- push and pull ---


@pytest.mark.parametrize("kind", MODELS)
def test_what_was_pushed_is_pulled_to_the_bit_and_downloaded_once(kind, hub):
    model = tiny(kind)
    model.push_to_hub(f"someone/{kind}", private=True)
    pulled = MODELS[kind].from_pretrained(f"someone/{kind}")
    assert same(pulled, model)
    assert not pulled.training
    assert {k: v for k, v in vars(pulled).items() if isinstance(v, (float, str))} == {
        k: v for k, v in vars(model).items() if isinstance(v, (float, str))
    }
    assert hub.repositories[f"someone/{kind}"].private
    assert sorted(hub.downloads) == ["config.json", "model.safetensors"]
    assert same(load(f"someone/{kind}"), model)
    assert len(hub.downloads) == 2  # a second pull makes no body downloads


def test_revisions_are_pinned(hub, pushed):
    first = hub.repositories[ID].refs["main"]
    second = tiny()
    with torch.no_grad():
        next(second.parameters()).add_(1)
    second.push_to_hub(ID)
    assert same(pull(), second)
    assert same(pull(revision=first), pushed)
    assert same(load_member(MANIPULATORS, ID, revision=first), pushed)
    assert same(pull(revision="main", local_files_only=True), second)
    with pytest.raises(WeightsError, match="no revision 'v9'"):
        pull(revision="v9")
    for revision in ("../../../escaped", "/escaped"):
        with pytest.raises(WeightsError, match="is no revision"):
            pull(revision=revision)


def test_config_and_weights_are_of_one_commit(hub, pushed, monkeypatch):
    """A push between the two downloads changes nothing."""
    other = tiny()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    seen = []
    serve = hub.RequestHandlerClass._file

    def push_in_between(handler, repo_id, revision, name):
        serve(handler, repo_id, revision, name)
        if name == "config.json" and handler.command == "GET":
            files = dict(hub.repositories[ID].commits[hub.repositories[ID].refs["main"]])
            seen.append(hub.repositories[ID].commit("main", files | {"model.safetensors": b"other"}))

    monkeypatch.setattr(hub.RequestHandlerClass, "_file", push_in_between)
    assert same(pull(), pushed)
    assert len(seen) == 1


def test_offline_with_and_without_cache(hub, pushed, monkeypatch):
    with pytest.raises(WeightsError, match="not in the cache, and this is offline"):
        pull(local_files_only=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="not in the cache, and this is offline"):
        pull()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    pull()
    assert same(pull(local_files_only=True), pushed)
    hub.failure = "broken"
    assert same(pull(), pushed)  # the Hub is down: what the cache has
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert same(pull(), pushed)
    assert len(hub.downloads) == 2


@pytest.mark.slow
def test_the_environment_is_respected_from_push_to_protected_photo(hub, tmp_path):
    """In a process of its own: HF_ENDPOINT and the cache's place are read when huggingface_hub is imported."""
    tiny("protector").save_pretrained(tmp_path / "protector")
    shutil.copy(PORTRAIT, tmp_path / "photo.png")
    push = ["push", str(tmp_path / "protector"), ID, "--tag", "v1"]
    protect = ["protect", str(tmp_path / "photo.png"), "--model", ID, "--revision", "v1", "--check", "none"]
    script = f"from art_idguard.cli import main; raise SystemExit(main({push}) or main({protect}))"
    given = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "own"), "HF_HUB_DISABLE_XET": "1"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))} | given
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "photo.protected.png").is_file()
    assert (tmp_path / "own" / "models--someone--model").is_dir()


# --- failures ---


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("unauthorized", "hf auth login"),
        ("forbidden", "hf auth login"),
        ("gated", "is gated: accept its terms"),
        ("absent", "no model someone/model at http"),
        ("broken", r"failed on config.json of someone/model \(500\): try again later"),
    ],
)
def test_every_failure_says_what_to_do(hub, pushed, failure, message):
    hub.failure = failure
    assert failure in STATUS
    with pytest.raises(WeightsError, match=message):
        pull()
    with pytest.raises(WeightsError, match=r"try again|auth login"):
        pushed.push_to_hub("someone/other")


def test_an_unreachable_hub_and_a_name_that_is_none(hub, pushed):
    hub.shutdown()
    hub.server_close()
    close_session()  # and the connection that is kept alive
    with pytest.raises(WeightsError, match=r"no folder someone/model is here.*the network and HF_ENDPOINT"):
        pull()
    for name in ("../../etc", "/etc/passwd/x", "a/b/c", "..", "some one", "x" * 5000):
        with pytest.raises(WeightsError):
            load(name)


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "face.png").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"face\.png is a file; expected a folder or Hub id"):
        load(tmp_path / "face.png")


def test_truncated_download_is_refused_and_leaves_nothing(hub, pushed, tmp_path):
    hub.failure = "truncated"
    with pytest.raises(WeightsError, match="broke off"):
        pull()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name.endswith((".json", ".safetensors"))]
    hub.failure = None
    assert same(pull(), pushed)


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
@pytest.mark.parametrize("name", ["../../../../escaped", "{}/escaped", "..", "W..", "..\\\\escaped", 'a"b', "a/../b"])
def test_an_answer_that_names_a_file_outside_the_cache_is_refused(hub, pushed, monkeypatch, tmp_path, header, name):
    send = hub.RequestHandlerClass._send

    def hostile(handler, status, body, headers):
        send(handler, status, body, headers | {header: f'"{name.format(tmp_path)}"'})

    monkeypatch.setattr(hub.RequestHandlerClass, "_send", hostile)
    for model in (ID, "someone/absent"):
        with pytest.raises(WeightsError, match=f"answers with {header} .* no name for a file in the cache"):
            MANIPULATORS["stargan"].from_pretrained(model)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    monkeypatch.setattr(hub.RequestHandlerClass, "_send", send)
    assert same(pull(), pushed)


def test_wrong_hash_names_both_and_how_to_mend_it(hub, pushed):
    hub.failure = "altered"
    with pytest.raises(WeightsError, match=r"its sha256 is [0-9a-f]{64}, .* says [0-9a-f]{64}") as caught:
        pull()
    hub.failure = None
    assert "force_download=True" in str(caught.value)
    with pytest.raises(WeightsError, match="sha256"):
        pull()  # it is in the cache
    assert same(pull(force_download=True), pushed)


def test_a_model_without_safetensors_or_of_another_kind(hub, pushed):
    files = hub.repositories[ID].commits[hub.repositories[ID].refs["main"]]
    hub.repositories[ID].commit("main", {"pytorch_model.bin": files.pop("model.safetensors")})
    with pytest.raises(WeightsError, match=r"has no model\.safetensors .* never a pickle"):
        pull()
    with pytest.raises(WeightsError, match="is of kind 'stargan', not 'protector'"):
        Protector.from_pretrained(ID)


# --- folders ---


@pytest.fixture
def folder(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def changed(folder, **settings):
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channnels": 8}, "unknown settings: channnels"),
        ({"channels": "8"}, "expected int, got str"),
        ({"channels": 8.0}, "expected int, got float"),
        ({"channels": True}, "expected int, got bool"),
        ({"blocks": None}, "expected int"),
        ({"channels": 10**9}, "impossible size"),
        ({"channels": 4096}, "does not fit"),  # without allocating 10 GB
        ({"channels": -8}, "does not describe"),
        ({"sha256": "0" * 64}, "sha256 is"),
        ({"sha256": 5}, "sha256 is"),
        ({"model_type": "../stargan"}, "is of kind"),
        ({"model_type": ["stargan"]}, "model_type"),
    ],
)
def test_malformed_settings_are_refused(folder, settings, message):
    changed(folder, **settings)
    with pytest.raises(WeightsError, match=message):
        MANIPULATORS["stargan"].from_pretrained(folder)


@pytest.mark.parametrize(
    "settings", [{"sha256": "x" * 60_000}, {"sha256": [[]] * 9000}, {"model_type": "x" * 60_000}, {"x" * 60_000: 1}]
)
def test_a_refusal_does_not_repeat_all_of_a_strangers_text(folder, settings):
    changed(folder, **settings)
    with pytest.raises(WeightsError, match=r"config\.json") as caught:
        load(folder)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("content", ["[]", "5", "null", '"x"', "{", "", "[" * 60_000, "\udcff"])
def test_a_config_that_is_no_object_is_refused(folder, content):
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=r"config\.json"):
        load(folder)


def test_a_huge_config_is_not_even_read(folder):
    with (folder / "config.json").open("a") as config:
        config.write(" " * 64 * 1024)
    with pytest.raises(WeightsError, match="larger than 64 KiB"):
        load(folder)


def test_a_pickle_beside_the_weights_is_not_pushed(folder, capsys):
    (folder / "optimizer.pt").write_bytes(b"")
    assert same(load(folder), tiny())
    assert main(["push", str(folder), ID, "--dry-run"]) == 1
    assert "optimizer.pt is not pushed" in capsys.readouterr().err


def test_a_config_without_hash_or_with_options_given_loads(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    assert same(load(folder), tiny())
    tiny("protector").save_pretrained(folder.parent / "protector")
    assert Protector.from_pretrained(folder.parent / "protector", epsilon=1).epsilon == 1.0
    with pytest.raises(WeightsError, match="epsilon"):
        Protector.from_pretrained(folder.parent / "protector", epsilon="1")


class Payload:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("content", [b"hello there", b"PK\x03\x04 damaged", pickle.dumps(print)])
def test_advice_against_safe_reading_is_not_passed_on(tmp_path, content):
    path = tmp_path / "G.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"G\.pth was refused: it is damaged, no torch file, or holds") as caught:
        load_member(MANIPULATORS, f"stargan={path}")
    assert "weights_only" not in str(caught.value)


def test_saved_weights_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        tiny().save_pretrained(tmp_path)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("*[a-z].*")} == {"0o640"}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_is_refused_and_does_not_run(folder, tmp_path, name, write):
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    write(Payload(tmp_path / "ran"), folder / name)
    with pytest.raises(WeightsError, match="pickle"):
        load(folder)
    assert main(["push", str(folder), ID, "--dry-run"]) == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md", "more/deep.txt"])
def test_a_link_that_leaves_the_folder_is_refused(folder, tmp_path, name, capsys):
    (folder / "more").mkdir()
    outside = tmp_path / "outside"
    if (folder / name).exists():
        shutil.move(folder / name, outside)
    else:
        outside.write_text("secret")
    (folder / name).symlink_to(outside)
    if name.endswith(("config.json", ".safetensors")):
        with pytest.raises(WeightsError, match="is a link to"):
            load(folder)
    assert main(["push", str(folder), ID, "--dry-run"]) == 1
    assert "is a link to" in capsys.readouterr().err


def test_links_inside_a_folder_or_the_cache_are_followed(hub, pushed, folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "v2.safetensors")
    (folder / "model.safetensors").symlink_to("v2.safetensors")
    (tmp_path / "alias").symlink_to(folder)
    assert same(load(tmp_path / "alias"), tiny())
    pull()
    (snapshot,) = (tmp_path / "cache" / "models--someone--model" / "snapshots").iterdir()
    assert (snapshot / "model.safetensors").is_symlink()
    assert same(load(snapshot), pushed)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(shutil.copy(folder / "config.json", tmp_path))
    with pytest.raises(WeightsError, match="is a link to"):
        load(snapshot)


# --- cards, push, info ---


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_shipped_cards_are_what_the_generator_makes(folder):
    """Else: python -m art_idguard.hub.cards hub/*/*/."""
    card = cards.generate(folder)
    assert (folder / "README.md").read_text() == f"{card}\n"
    card = ModelCard(str(card))
    assert card.data.license
    assert card.data.tags[0] == "art-idguard"
    for heading in ("## How to load it", "## Intended use", "## Not for", "## Limits", "## Licence and terms"):
        assert heading in card.content


def test_shipped_models_name_their_hash_and_load():
    for folder in SHIPPED:
        if (folder / "config.json").is_file():
            assert len(json.loads((folder / "config.json").read_text())["sha256"]) == 64
            load(folder)


def test_the_protectors_card_has_its_results(folder):
    source = ROOT / "hub" / "protectors" / "default"
    report = json.loads((source / "evaluation" / "celeba128.json").read_text())
    results = ModelCard.load(source / "README.md").data.eval_results
    (found,) = (r for r in results if r.dataset_name == "celeba128" and r.metric_name == "worst manipulator, l2_face")
    assert found.metric_value == report["summary"]["ID-Guard"]["worst manipulator"]["l2_face"]["mean"]


@pytest.mark.parametrize("source", sorted((ROOT / "hub" / "hardened").iterdir()), ids=lambda path: path.name)
def test_a_hardened_models_card_has_its_white_box_attacks(source):
    card = (source / "README.md").read_text()
    assert (source / "evaluation" / "table7.md").read_text().strip() in card
    assert "left out" not in card


def test_results_of_other_weights_are_left_out(folder):
    (folder / "evaluation").mkdir()
    report = {"metadata": {"weights": {"x": "0" * 64}}, "summary": {"edit": {"success": {"mean": 0.5}}}}
    (folder / "evaluation" / "faces.json").write_text(json.dumps(report))
    assert "`faces.json` is of other weights and left out" in str(cards.generate(folder))
    config = json.loads((folder / "config.json").read_text())
    report["metadata"]["weights"]["x"] = config["sha256"]
    (folder / "evaluation" / "faces.json").write_text(json.dumps(report))
    (result,) = cards.generate(folder).data.eval_results
    assert (result.metric_name, result.metric_value) == ("edit, success", 0.5)


def test_a_generated_card_follows_the_model_and_a_written_one_stays(folder):
    model = tiny()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(folder)
    digest = json.loads((folder / "config.json").read_text())["sha256"]
    assert digest in (folder / "README.md").read_text()
    assert "Making pictures of people without their consent" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("mine")
    model.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"


def test_bad_facts_are_named(folder):
    (folder / "card.toml").write_text('titel = "x"')
    with pytest.raises(ValueError, match="unknown keys: titel"):
        cards.generate(folder)
    (folder / "card.toml").write_text('[[training]]\nrecipe = "absent.toml"')
    with pytest.raises(ValueError, match=r"absent\.toml"):
        cards.generate(folder)


@pytest.mark.parametrize("text", ["{{ 7*7 }}", "{% if %}", "{# no #}", "<b>a & 'b'</b> \"c\"", "{{ mark }}"])
def test_texts_are_no_template(folder, text):
    """What a person wrote stands in the card as it is."""
    names = ("summary", "terms", "usage", "evaluation", "intended", "limits", "misuse")
    lines = [f"{name} = {json.dumps(f'{text} of {name}')}" for name in names]
    key = json.dumps(text)
    lines += [f"sections = {{ {key} = {key} }}", f"table = {{ {key} = {key} }}", f"training = [{{ note = {key} }}]"]
    (folder / "card.toml").write_text("\n".join([f"title = {key}", *lines]))
    card = str(cards.generate(folder))
    for expected in (f"# {text}\n", f"## {text}\n\n{text}\n", f"| {text} | {text} |", f"| training | {text} |"):
        assert expected in card
    for name in names:
        assert f"\n{text} of {name}\n" in card


def test_an_empty_card_has_no_empty_headings(tmp_path):
    (tmp_path / "card.toml").write_text('kind = "other"\nlimits = " \\n"')
    card = ModelCard(str(cards.generate(tmp_path))).text
    assert re.findall("^## .*", card, re.MULTILINE) == ["## Intended use", "## Not for"]
    assert "|" not in card
    assert "\n\n\n" not in card


def test_push_makes_branch_and_tag_and_info_says_it_all(hub, folder, capsys):
    (folder / ".secret").write_text("x")
    assert main(["push", str(folder), ID, "--dry-run"]) == 0
    assert hub.repositories == {}
    assert main(["push", str(folder), ID, "--private", "--revision", "next", "--tag", "v1"]) == 0
    repository = hub.repositories[ID]
    assert repository.private
    assert repository.refs["v1"] == repository.refs["next"] != repository.refs["main"]
    files = repository.commits[repository.refs["v1"]]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert f'from_pretrained("{ID}")' in files["README.md"].decode()
    capsys.readouterr()
    assert main(["push", str(folder), ID, "--tag", "v1"]) == 1
    assert "has a tag v1, which stays where it is" in capsys.readouterr().err
    assert main(["info", ID, "--revision", "v1"]) == 0
    text = capsys.readouterr().out
    digest = json.loads((folder / "config.json").read_text())["sha256"]
    for line in ("kind: stargan", f"commit: {repository.refs['v1']}", f"sha256: {digest} (verified)", "license: "):
        assert line in text


def test_info_shows_epsilon_licence_and_results(capsys):
    source = ROOT / "hub" / "protectors" / "default"
    report = json.loads((source / "evaluation" / "celeba128.json").read_text())
    worst = report["summary"]["ID-Guard"]["worst manipulator"]["l2_face"]["mean"]
    assert main(["info", str(source)]) == 0
    text = capsys.readouterr().out
    assert "epsilon: 0.05 on [-1, 1], 0.025 on [0, 1]" in text
    assert "license: non-commercial-research" in text
    assert f"celeba128, test: worst manipulator, l2_face: {worst}" in text


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
HOSTILE = {
    "aliases": f"{BOMB}license: *a59",
    "far more": "license: " + "[" * 60_000,
    "far more metadata": "license: [" + "{a: " * 5000,
    "damaged": "license: [",
    "damaged: repo card": "- a",
    "larger than": "license: " + "x" * 2**20,
}


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_card_is_refused_at_once(folder, message, capsys):
    (folder / "README.md").write_text(f"---\n{HOSTILE[message]}\n---\n\n# A model\n")
    for command in (["info", str(folder)], ["push", str(folder), ID, "--dry-run"]):
        assert main(command) == 1
        said = capsys.readouterr()
        assert f"{folder / 'README.md'}" in said.err
        assert message in said.err
        assert len(said.err) < 1000
    assert same(load(folder), tiny())  # the model is sound


def test_a_card_that_is_no_text_is_named(folder, capsys):
    (folder / "README.md").write_bytes(b"\xff\xfe mine")
    assert main(["push", str(folder), ID, "--dry-run"]) == 1
    assert "README.md is not pushed: it is damaged" in capsys.readouterr().err
    tiny().save_pretrained(folder)
    assert (folder / "README.md").read_bytes() == b"\xff\xfe mine"


@pytest.mark.parametrize("kind", MODELS)
def test_what_was_compared_is_said_to_be_verified_and_no_more(kind, tmp_path, capsys):
    tiny(kind).save_pretrained(tmp_path)
    digest = json.loads((tmp_path / "config.json").read_text())["sha256"]
    assert main(["info", str(tmp_path)]) == 0
    assert f"sha256: {digest} (verified)" in capsys.readouterr().out
    for wrong, code in (("0" * 64, 1), (digest.upper(), 1), ("", 1), (None, 0)):
        changed(tmp_path, sha256=wrong)
        assert main(["info", str(tmp_path)]) == code
        assert "(verified)" not in capsys.readouterr().out


def test_what_a_card_says_commands_no_terminal(folder, capsys):
    (folder / "README.md").write_text('---\nlicense: "a\\x1b[2J\\nb"\n---\n')
    assert main(["info", str(folder)]) == 0
    assert r"license: a\x1b[2J\nb" in capsys.readouterr().out


def test_a_missing_hash_is_not_said_to_be_verified(folder, capsys):
    changed(folder, sha256=None)
    assert main(["info", str(folder)]) == 0
    assert "sha256: none in config.json, not verified" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["protectors/default", "recognizers/sface"])
def test_saving_what_was_loaded_keeps_weights_precision_and_licence(tmp_path, name):
    source, copies = ROOT / "hub" / name, [tmp_path / "first", tmp_path / "second"]
    for before, after in zip([source, copies[0]], copies, strict=True):
        load(before).save_pretrained(after)
        kept = load_file(after / "model.safetensors")
        for key, tensor in load_file(source / "model.safetensors").items():
            assert kept[key].dtype == tensor.dtype
            assert torch.equal(kept[key], tensor)
        cards_ = [ModelCard.load(folder / "README.md").data for folder in (source, after)]
        assert cards_[0].license == cards_[1].license
        assert cards_[0].get("license_name") == cards_[1].get("license_name")


def test_weights_that_changed_are_saved_as_they_are(folder):
    model = tiny().half()
    model.save_pretrained(folder)
    loaded = load(folder)
    with torch.no_grad():
        next(loaded.parameters()).mul_(1 + 2**-20)
    loaded.save_pretrained(folder)
    assert same(load(folder), loaded)
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} > {
        torch.float16,
        torch.float32,
    }


@pytest.mark.parametrize("place", ["card.toml", "README.md"])
def test_a_licence_is_taken_from_where_it_stands_and_kept_on_the_hub(hub, folder, place, tmp_path):
    (folder / "README.md").unlink()
    card = 'license = "mit"' if place == "card.toml" else "---\nlicense: mit\n---\n# Mine\n"
    (folder / place).write_text(card)
    load(folder).push_to_hub(ID)
    load(ID).save_pretrained(tmp_path / "copy")
    assert ModelCard.load(tmp_path / "copy" / "README.md").data.license == "mit"


def test_a_folder_without_a_model_is_pushed_with_its_card(hub, tmp_path):
    for name in ("README.md", "card.toml", "face_detection_yunet_2023mar.onnx"):
        shutil.copy(ROOT / "hub" / "detectors" / "yunet" / name, tmp_path)
    assert main(["push", str(tmp_path), "someone/yunet"]) == 0
    assert len(hub.repositories["someone/yunet"].commits) == 2
    save_file({}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "yunet"}')
    assert main(["push", str(tmp_path), "someone/yunet"]) == 1  # what does not load is not pushed
