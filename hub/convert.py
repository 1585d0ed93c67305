"""Turn an official checkpoint into a folder in the Hub's layout: `python hub/convert.py stargan G.ckpt FOLDER`.

Writes config.json (with the weights' sha256), model.safetensors (fp16) and a card; one that someone wrote stays.
"""

import argparse
import json
from pathlib import Path

from art_idguard.manipulators import MANIPULATORS


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=MANIPULATORS)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=json.loads, default={}, help="settings as JSON")
    options = parser.parse_args()
    model = MANIPULATORS[options.name].from_checkpoint(options.checkpoint, **options.config)
    model.half().save_pretrained(options.folder)


if __name__ == "__main__":
    main()
