"""Push a folder of hub/ with its card: `python hub/publish.py protectors/default USER/NAME [options of push]`."""

import sys
from pathlib import Path

from art_idguard.cli import main

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, *words = sys.argv[1:]
    sys.exit(main(["push", str(Path(__file__).parent / folder), *words]))
