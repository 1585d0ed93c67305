"""Fig. 11: identification and verification of forgeries, by local recognisers and by somebody's own system."""

import pytest
import torch
from torch.nn import functional as F

from art_idguard import recognizers
from art_idguard.data.reading import read_faces
from art_idguard.evaluation.recognition import IDENTIFIED, UNPROTECTED, LocalSystem, misdirections
from art_idguard.faces.alignment import arcface_frame
from art_idguard.manipulators import load


@pytest.fixture(scope="module")
def faces(workplace):
    return read_faces(workplace / "faces", size=64, split="train")


@pytest.fixture(scope="module")
def recognizer():
    """The one that ships: a tiny one can tell no two faces apart."""
    return recognizers.default()


def test_a_local_system_knows_who_is_enrolled_and_misses_whom_it_is_far_from(faces, recognizer):
    batch = faces.batch(slice(None))
    names = [f"person {i}" for i in range(len(faces))]
    frame = arcface_frame(batch.landmarks, (64, 64))
    with torch.no_grad():
        unit = F.normalize(recognizer(batch.images, frame))
    limit = float((unit @ unit.T).fill_diagonal_(-1).max(dim=1).values.median())
    system = LocalSystem("sface", recognizer, {"1%": limit})
    with torch.no_grad():
        system.enrol(batch.images[:6], batch.landmarks[:6], names[:6])
        system.enrol(batch.images[6:], batch.landmarks[6:], names[6:])
        own = system.recognised(batch.images, batch.landmarks, names)
        others = system.recognised(batch.images, batch.landmarks, names[1:] + names[:1])
    assert own.keys() == {IDENTIFIED, "verification, FAR 1%"}
    assert all(found.all() for found in own.values())
    assert not others[IDENTIFIED].any()
    expected = torch.stack([unit[i] @ unit[(i + 1) % len(unit)] for i in range(len(unit))]) >= limit
    assert torch.equal(others["verification, FAR 1%"], expected)


class Service:
    """Somebody's own: takes a face for whoever's photo has the nearest mean colour."""

    name = "colours"

    def __init__(self):
        self.known = {}
        self.asked = 0

    def enrol(self, faces, landmarks, names):
        self.known |= dict(zip(names, faces.mean(dim=(2, 3)), strict=True))

    def recognised(self, faces, landmarks, names):
        self.asked += len(faces)
        colours = torch.stack(list(self.known.values()))
        nearest = torch.cdist(faces.mean(dim=(2, 3)), colours).argmin(dim=1)
        return {"search": torch.tensor([list(self.known)[i] == name for i, name in zip(nearest, names, strict=True)])}


@pytest.mark.parametrize("edits", ["cycle", "all"])
def test_misdirection_is_what_a_plain_loop_counts_and_a_service_is_asked_likewise(faces, workplace, recognizer, edits):
    stargan = load(str(workplace / "stargan"))
    few = faces.select([0, 1, 2, 3, 4])
    strangers = faces.select([5, 6, 7])
    protections = {"darker": lambda batch: batch.images - 0.4}
    service, local = Service(), LocalSystem("sface", recognizer, {})
    found = misdirections(
        protections, {"stargan": stargan}, few, [local, service], strangers=strangers, edits=edits, batch_size=2
    )
    assert len(service.known) == len(local.names) == 8
    rows = (UNPROTECTED, "darker")
    assert list(found) == [(row, "stargan", way) for row in rows for way in (f"sface, {IDENTIFIED}", "colours, search")]
    gallery = torch.stack([*few.batch(slice(None)).images, *strangers.batch(slice(None)).images]).mean(dim=(2, 3))
    for row in rows:
        values = found[row, "stargan", "colours, search"]
        assert values.shape == (5, 1 if edits == "cycle" else 5)
        for i in range(5):
            batch = few.batch(slice(i, i + 1))
            images = batch.images if row == UNPROTECTED else batch.images - 0.4
            for e, edit in enumerate(stargan.edits(batch.attributes)):
                if edits == "cycle" and e != i % 5:
                    continue
                with torch.no_grad():
                    seen = stargan(images, edit).output.mean(dim=(2, 3))
                missed = torch.cdist(seen, gallery).argmin() != i
                assert values[i, 0 if edits == "cycle" else e] == float(missed), (row, i, e)


def test_whoever_is_enrolled_as_the_photo_is_found_in_what_changes_nothing(faces, recognizer, workplace):
    """A manipulator that returns its input: nobody is missed without a protection."""
    same = load(str(workplace / "stargan"))
    same.forward = lambda x, edit: type("Same", (), {"output": x})()
    found = misdirections({}, {"same": same}, faces, [LocalSystem("sface", recognizer, {"1%": 0.999})])
    assert all(values.sum() == 0 for values in found.values())
    assert len(found) == 2
