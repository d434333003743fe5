"""Whether the Hugging Face Hub can be reached: asked once, so that its client does not retry for a minute each time."""

import functools
import logging
from pathlib import Path

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0


def prepare_hub() -> bool:
    """Have everything taken from the cache where the Hub cannot be reached; to be called before its client is.

    Returns:
        Whether it can be reached.
    """
    from huggingface_hub import constants

    reachable = _answers()
    if not reachable:
        constants.HF_HUB_OFFLINE = True
    return reachable


def has_cached(model: str) -> bool:
    """Whether the Hub client's cache holds anything of a model.

    Args:
        model: A Hub id; without a user's name, one of sentence-transformers too, whose library adds that name itself.
    """
    from huggingface_hub import constants

    names = [model] if "/" in model else [model, f"sentence-transformers/{model}"]
    return any((Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").is_dir() for name in names)


@functools.cache
def _answers() -> bool:
    """Whether the Hub answers; false in its client's offline mode (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception as error:  # noqa: BLE001 - the client's errors share no base with those of the network
        log.warning("the Hugging Face Hub cannot be reached (%s); only what is cached can be loaded", error)
        return False
    return True
