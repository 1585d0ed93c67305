import copy
import io
import json
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from art_idguard import recognizers
from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.faces.alignment import arcface_frame
from art_idguard.faces.detection import FaceDetector
from art_idguard.images import from_array
from art_idguard.recognizers import RECOGNIZERS, ArcFace, MobileFaceNet, MobileFaceNet192, SFace, VGGFace, cosine
from art_idguard.recognizers.base import Recognizer
from tests.golden import GOLDENS, check, fill, h


def tar_pictures(path, count):
    """The first pictures of a tar, with their names."""
    with tarfile.open(path) as tar:
        for member in [m for m in tar if m.isfile()][:count]:
            content = io.BytesIO(tar.extractfile(member).read())
            yield member.name, np.array(Image.open(content).convert("RGB"))


@pytest.fixture(scope="module", params=RECOGNIZERS.values(), ids=RECOGNIZERS)
def network(request):
    return fill(request.param(width=16)).float().requires_grad_(False)


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 40, 48) * 2 - 1


FRAME = torch.tensor([[[0.5, -0.1, 0.1], [0.1, 0.6, 0.0]]]).expand(3, 2, 3)


def test_forward_is_head_of_the_feature_map_of_the_crop(network, pictures):
    features = network.feature_map(pictures, FRAME)
    assert features.shape[0] == 3
    assert features.shape[2:] == (7, 7)
    assert torch.equal(features, network.backbone(network.crop(pictures, FRAME)))
    embeddings = network(pictures, FRAME)
    assert embeddings.ndim == 2
    assert embeddings.isfinite().all()
    assert torch.equal(embeddings, network.head(features))


def test_mode_does_not_matter(network, pictures):
    expected = network.eval()(pictures)
    assert torch.equal(network.train()(pictures), expected)
    network.eval()


def test_an_embedding_does_not_depend_on_its_batch(network, pictures):
    network, pictures = copy.deepcopy(network).double(), pictures.double()
    alone = torch.cat([network(x[None]) for x in pictures])
    torch.testing.assert_close(network(pictures), alone, rtol=1e-9, atol=1e-12)


def test_alignment_matters(network, pictures):
    assert not torch.allclose(network(pictures, FRAME), network(pictures), rtol=1e-3)


@pytest.mark.parametrize("frame", [None, FRAME], ids=["whole", "aligned"])
def test_gradient_reaches_the_picture_alone(network, pictures, frame):
    pictures.requires_grad_()
    network(pictures, frame).square().sum().backward()
    assert pictures.grad.isfinite().all()
    assert (pictures.grad != 0).any(dim=(1, 2, 3)).all()
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.slow
def test_runs_in_bfloat16_autocast(network, pictures):
    with torch.autocast("cpu", torch.bfloat16):
        found = network(pictures, FRAME).float()
    assert cosine(found, network(pictures, FRAME)).min() > 0.98


def test_survives_saving_and_loading(network, pictures, tmp_path):
    network.save_pretrained(tmp_path)
    loaded = recognizers.load(tmp_path)
    assert type(loaded) is type(network)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded(pictures, FRAME), network(pictures, FRAME))


def test_original_layout_is_loaded_by_name(network, pictures, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = recognizers.load(f"{network.name}={tmp_path / 'weights.pth'}", width=16)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded(pictures), network(pictures))


def test_weights_of_another_size_are_refused(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        recognizers.load(f"{network.name}={tmp_path / 'weights.pth'}", width=32)


def test_unknown_name_lists_the_choices(tmp_path):
    with pytest.raises(IDGuardError, match="sface, mobilefacenet, mobilefacenet_192d, arcface, vggface"):
        recognizers.load("facenet=weights.pth")
    (tmp_path / "config.json").write_text('{"model_type": "stargan"}')
    with pytest.raises(IDGuardError, match="unknown model 'stargan'"):
        recognizers.load(tmp_path)


@pytest.mark.parametrize("config", [None, "{", "[]", "{}"])
def test_folder_without_model_type_is_a_clear_error(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(WeightsError, match=r"config\.json that has a model_type"):
        recognizers.load(tmp_path)


def test_default_is_the_shipped_sface():
    network = recognizers.default()
    assert isinstance(network, SFace)
    assert sum(p.numel() for p in network.parameters()) == 9_642_880
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(MobileFaceNet, 1_190_336), (MobileFaceNet192, 1_292_992), (ArcFace, 52_193_215), (VGGFace, 145_002_878)],
)
def test_size_is_that_of_the_original(network: type[Recognizer], parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in network().parameters()) == parameters


def test_smaller_arcface_is_the_50_layer_network():
    with torch.device("meta"):
        assert sum(p.numel() for p in ArcFace(blocks=(3, 4, 6, 3)).parameters()) == 31_969_165


def one_round_h(key, *shape):
    """As `golden.h` with one of its two rounds: what recognizers.json was made with."""
    x = np.arange(np.prod(shape), dtype=np.uint32)
    x = x * np.uint32(2654435761) + np.uint32(zlib.crc32(key.encode()))
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x45D9F3B)
    return torch.from_numpy((x ^ (x >> np.uint32(16))) / 2**31 - 1).reshape(shape)


def check_recognizer(network, entry, hashed=one_round_h):
    golden = json.loads((GOLDENS / "recognizers.json").read_text())[entry]
    embedding = network((0.9 * hashed("input.x112", 1, 3, 112, 112)).float())[0]
    assert embedding.norm().item() == pytest.approx(golden["norm"], rel=1e-3)
    torch.testing.assert_close(embedding[:8], torch.tensor(golden["first8"]), rtol=1e-3, atol=1e-3)


def test_sface_parity():
    check_recognizer(recognizers.default(), "sface_128d.fp16")


def test_mobilefacenet_parity(shared):
    path = shared / "weights/recognizers/mobilefacenet_512d.safetensors"
    check_recognizer(recognizers.load(f"mobilefacenet={path}"), "mobilefacenet_512d")


def test_judge_parity(shared):
    path = shared / "weights/recognizers/mobilefacenet_192d.safetensors"
    check_recognizer(recognizers.load(f"mobilefacenet_192d={path}"), "mobilefacenet_192d", h)


@pytest.mark.slow
@torch.no_grad()
def test_arcface_parity():
    network = fill(ArcFace())
    features = network.feature_map(0.9 * h("input.x112", 1, 3, 112, 112))
    check(features, "arcface_3_4_23_3_evalmode", "features")
    check(network.head(features), "arcface_3_4_23_3_evalmode", "embedding")


@pytest.mark.slow
@torch.no_grad()
def test_vggface_parity():
    network = fill(VGGFace())
    features = network.feature_map(h("input.x224", 1, 3, 224, 224))
    check(features, "vggface_evalmode", "conv5")
    check(network.classify(features), "vggface_evalmode", "logits")


def test_imagenet_normalisation_makes_unit_statistics():
    network = ArcFace(width=16, blocks=(1, 1, 1, 1), normalisation="imagenet")
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    unit = torch.rand(2, 3, 112, 112)
    raw = ArcFace(width=16, blocks=(1, 1, 1, 1))
    raw.load_state_dict(network.state_dict())
    expected = raw.backbone((unit - mean) / std)
    torch.testing.assert_close(network.backbone(unit * 2 - 1), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_same_person_is_more_similar_than_another(shared):
    detector, network = FaceDetector(), recognizers.default()
    people, embeddings = [], []
    for name, picture in tar_pictures(shared / "data/lfw-sample.tar", 40):
        centre = np.array(picture.shape[1::-1]) / 2
        face = min(detector.detect(picture), key=lambda f: np.abs(f.landmarks.mean(0) - centre).sum())
        frame = arcface_frame(torch.from_numpy(face.landmarks)[None], picture.shape[:2])
        embeddings.append(network(from_array(picture[None]), frame))
        people.append(name.rsplit("_", 1)[0])
    embedding = torch.nn.functional.normalize(torch.cat(embeddings), dim=1)
    similarity = embedding @ embedding.T
    same = torch.tensor([[a == b for b in people] for a in people])
    assert similarity[same & ~torch.eye(len(people), dtype=torch.bool)].mean() > 0.6
    assert similarity[~same].mean() < 0.15
    assert ((similarity > 0.4) == same).float().mean() > 0.98
