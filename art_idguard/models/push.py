"""`art-idguard push`: a model's folder to the Hub, with its card."""

import shutil
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.files.atomic import alone_in
from art_idguard.hub import cards
from art_idguard.hub.card_metadata import read_metadata
from art_idguard.hub.repository import CONFIG, check_link, explained, finish_save
from art_idguard.hub.shipped import resolve
from art_idguard.models.config import PushConfig
from art_idguard.models.contents import require_publishable
from art_idguard.models.loading import load


def push_folder(folder: str | Path, repo_id: str, **settings: Any) -> str:
    """Check a folder, generate its card, and upload it in one commit; what is not in the folder stays on the Hub.

    Args:
        folder: in the Hub's layout; a README.md that someone wrote is taken as it is. Hidden files stay here.
        repo_id: where to, such as "user/name"; made if it is not there.
        settings: the other fields of `PushConfig`.

    Returns:
        The commit's address, or what would be done.

    Raises:
        IDGuardError: a setting is wrong, the folder's model does not load, or its card cannot be generated.
        WeightsError: the folder has a pickle, a file of an unknown kind or a link that leaves it, or the Hub does not
            take it.
    """
    config = PushConfig.from_recipe(None, folder=folder, repo_id=repo_id, **settings)
    folder = Path(resolve(config.folder))
    files = _files(folder)
    generate = load(folder).generate_model_card if folder / CONFIG in files else cards.generate
    if cards.is_by_hand(folder):
        read_metadata(folder / cards.CARD)  # it is sound
        card = (folder / cards.CARD).read_text(encoding="utf-8")
    else:
        card = str(generate(folder, source=repo_id))
    if config.dry_run:
        sizes = (f"{path.relative_to(folder)} ({path.stat().st_size:,} bytes)" for path in files)
        place = f"{repo_id}, revision {config.revision or 'main'}"
        return f"would push to {place}: {', '.join(sizes)}, and the card\n\n{card}"
    with TemporaryDirectory() as copy, explained(repo_id):
        for path in files:
            target = Path(copy) / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (Path(copy) / cards.CARD).write_text(card, encoding="utf-8")
        return _upload(Path(copy), config, config.message or f"{folder.resolve().name}: art-idguard push")


def _files(folder: Path) -> list[Path]:
    """What is to be uploaded; nothing that could run code, and nothing from outside the folder."""
    if not folder.is_dir():
        found = f"{folder} is a file" if folder.is_file() else f"no folder at {folder}"
        raise IDGuardError(f"{found}; give a model's folder, such as hub/protectors/default")
    with alone_in(folder):
        finish_save(folder)
    visible = (p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    files = sorted(path for path in visible if path.is_symlink() or path.is_file())
    for path in files:
        check_link(path, folder)
        require_publishable(path)
    if not files:
        raise IDGuardError(f"nothing to push in {folder}")
    return files


def _upload(folder: Path, config: PushConfig, message: str) -> str:
    hub, repo_id = HfApi(library_name="art-idguard"), config.repo_id
    hub.create_repo(repo_id, private=config.private, exist_ok=True)
    if config.revision:
        hub.create_branch(repo_id, branch=config.revision, exist_ok=True)
    commit = hub.upload_folder(repo_id=repo_id, folder_path=folder, revision=config.revision, commit_message=message)
    if config.tag:
        try:
            hub.create_tag(repo_id, tag=config.tag, revision=commit.oid)
        except HfHubHTTPError as error:
            if error.response.status_code != HTTPStatus.CONFLICT:
                raise
            raise WeightsError(
                f"pushed to {commit.commit_url}, but {repo_id} has a tag {config.tag}, which stays where it is; delete "
                "it on the Hub, or give another"
            ) from error
    return str(commit.commit_url)
