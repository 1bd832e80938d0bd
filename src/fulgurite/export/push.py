"""Uploads an exported folder to the Hugging Face hub, or lists what would be uploaded."""

from __future__ import annotations

import os
from pathlib import Path

from fulgurite.config.export_arguments import Export
from fulgurite.errors import RequestError, is_shortage
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""The variables of the environment that huggingface_hub reads a token from."""
COMMIT = "Upload a model trained with Fulgurite"
"""The message of the commit on the hub."""


def read_token(name: str) -> str:
    """Returns the hub's token from the environment. Raises RequestError if there is none, or if the
    hub is switched off.

    A token is never a parameter: a command line is kept in histories and seen by others.
    """
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise RequestError(
            "push={name} needs the network, and HF_HUB_OFFLINE is set; unset it, or add dry_run=true.", name=name
        )
    token = next((os.environ[variable] for variable in TOKENS if os.environ.get(variable)), None)
    if token is None:
        raise RequestError(
            "push={name} needs a token of the Hugging Face hub that may write; set HF_TOKEN in the environment, or add "
            "dry_run=true.", name=name,
        )
    return token


def push_folder(folder: Path, config: Export) -> list[UserMessage]:
    """Uploads the folder in one commit, and returns the lines to print; with `dry_run` only the lines.

    Raises RequestError if the hub refuses; the folder stays.
    """
    name = str(config.push)
    if config.dry_run:
        return [message("dry_run=true: nothing was uploaded. To {name} would go:", name=name), *list_files(folder)]
    token = read_token(name)
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(name, private=config.private, exist_ok=True)
        found = api.upload_folder(repo_id=name, folder_path=folder, commit_message=COMMIT)
    except Exception as error:  # the classes of its HTTP client are the library's choice
        if is_shortage(error):
            raise
        raise RequestError(
            "{path} is written, but the Hugging Face hub did not take it as {name}: {reason}. Upload it later by: "
            "hf upload {name} {path}",
            path=folder, name=name, reason=quote_foreign(error, 200),
        ) from error
    return [message("Uploaded to {url}:", url=found.commit_url), *list_files(folder)]


def list_files(folder: Path) -> list[UserMessage]:
    """Returns a line for each file of a folder with its size in bytes, and one for all of them."""
    sizes = {path.relative_to(folder): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    lines = [message("{size:>14,}  {name}", size=size, name=name) for name, size in sizes.items()]
    return [*lines, message("{size:>14,}  bytes in all", size=sum(sizes.values()))]
