"""Uploading an export to the Hugging Face Hub."""

import re
from pathlib import Path
from typing import Literal

from ..core.errors import InputError, shorten
from ..core.secrets import MASK, mask_text

Kind = Literal["model", "dataset"]


def check_push(repo: str) -> None:
    """Refuse a push that cannot come about, before anything is written.

    Raises:
        InputError: If the name is none, or nobody is logged in.
    """
    from huggingface_hub import constants, get_token

    if not re.fullmatch(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", repo):
        raise InputError(f"push {shorten(repo)}: expected USER/NAME, such as --push me/reviews-hi")
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"push {repo}: HF_HUB_OFFLINE is set, expected a Hub that can be reached; unset it")
    if not get_token():
        raise InputError(f"push {repo}: not logged in to the Hub; run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repo: str, kind: Kind) -> str:
    """Upload a folder; a new repository is private.

    Args:
        folder: The export.
        repo: USER/NAME.
        kind: What the folder holds.

    Returns:
        The address of the repository.

    Raises:
        InputError: If the Hub refuses it or cannot be reached; the folder stays.
    """
    from huggingface_hub import HfApi, get_token

    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message="Export of Labelbridge")
    except Exception as error:  # noqa: BLE001 - the client's errors share no base with those of the network
        reason = mask_text(" ".join(str(error).split()).replace(get_token() or MASK, MASK)) or type(error).__name__
        raise InputError(
            f"push {repo}: the Hub did not take it ({shorten(reason, 240)[1:-1]}); {folder} is complete: check the "
            "name and your rights, and run the same command again"
        ) from None
    return str(address)
