"""What the cards of all models of a family say."""

from typing import NamedTuple

PAPER = (
    "ID-Guard (Qu et al., *ID-Guard: A Universal Framework for Combating Facial Manipulation via Breaking "
    "Identification*)"
)


class Kind(NamedTuple):
    """What is true of every model of a family."""

    pipeline: str | None
    tags: tuple[str, ...]
    usage: str
    intended: str
    misuse: str


KINDS = {
    "protector": Kind(
        "image-to-image",
        ("adversarial-perturbation", "face-protection"),
        "from art_idguard import Protector\n\n"
        'protector = Protector.from_pretrained("{source}")\n'
        "protected = protector(faces).specific  # (B, 3, H, W) on [-1, 1]",
        f"Adding a perturbation to photos of oneself, or of people who agree, and research on {PAPER}. On the command "
        "line: `art-idguard protect photo.jpg --model {source}`.",
        "Evading face recognition. It is no guarantee for a photo that matters to anyone.",
    ),
    "watermarker": Kind(
        "image-to-image",
        ("watermarking", "proactive-forensics"),
        "from art_idguard.forensics import Watermarker\n\n"
        'watermarker = Watermarker.from_pretrained("{source}")\n'
        "marked = watermarker(faces, message)  # (B, 3, H, W) on [-1, 1], and (B, L) of 0 and 1\n"
        "read = watermarker.read(marked) > 0.5",
        f"Putting a message into photos of oneself, or of people who agree, and research on {PAPER}. On the command "
        "line: `art-idguard watermark embed photo.jpg --model {source} --payload 1f2e`.",
        "Proof of anything: a message can be washed out, and put into other pictures.",
    ),
    "manipulator": Kind(
        "image-to-image",
        ("face-manipulation",),
        "from art_idguard import MANIPULATORS\n\n"
        'manipulator = MANIPULATORS["{model_type}"].from_pretrained("{source}")\n'
        "forged = manipulator(faces, manipulator.edits(attributes)[0]).output  # faces on [-1, 1]",
        "The target of an attack, for research on protecting faces.",
        "Making pictures of people without their consent.",
    ),
    "recognizer": Kind(
        "image-feature-extraction",
        ("face-recognition",),
        "from art_idguard import RECOGNIZERS\n\n"
        'recognizer = RECOGNIZERS["{model_type}"].from_pretrained("{source}")\n'
        "embeddings = recognizer(faces)  # (B, D), compare by cosine; faces on [-1, 1]",
        "Measuring whether a manipulated face still shows the same person.",
        "Identifying people.",
    ),
}
ANY = Kind(None, (), "", "Research on protecting faces.", "Identifying people, or making pictures of them unasked.")
