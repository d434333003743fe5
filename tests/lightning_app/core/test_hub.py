"""What is said when a model of the Hub cannot be loaded, how often the Hub is asked, and which extra brings a package."""

from pathlib import Path

import pytest

from labelbridge.lightning_app.core import hub
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source, load_rows
from labelbridge.lightning_app.models.loading import loading


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Hub that does not answer, and what it was asked."""
    from huggingface_hub import constants

    calls: list[str] = []

    class Session:
        def head(self, address: str, **_: object) -> None:
            calls.append(address)
            raise OSError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    hub._answers.cache_clear()
    yield calls
    hub._answers.cache_clear()


def test_the_hub_is_asked_once_and_its_client_not_at_all(asked: list[str], task: Task):
    from huggingface_hub import constants

    said = "^model org/model: no such folder, and no cached model of the Hub, which cannot be reached; give a local"
    for _ in range(3):
        with pytest.raises(InputError, match=said), loading("org/model", "its tokenizer", "save it"):
            raise AssertionError("it is not tried")
    with pytest.raises(InputError, match="hub:org/rows/train: the Hub data set cannot be loaded .*cannot be reached"):
        load_rows(Source("hub:org/rows"), task, None)
    assert constants.HF_HUB_OFFLINE
    assert len(asked) == 1


@pytest.mark.parametrize(("name", "folder"), [("org/model", "org--model"), ("mini", "sentence-transformers--mini")])
def test_a_cached_model_is_left_to_the_library(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (tmp_path / f"models--{folder}").mkdir()
    said = f"^model {name}: its tokenizer cannot be loaded .gone.; the Hub cannot be reached; save it$"
    with pytest.raises(InputError, match=said), loading(name, "its tokenizer", "save it"):
        raise OSError("gone")


def test_a_folder_asks_nobody(asked: list[str], tiny_bert: Path):
    with pytest.raises(InputError, match="cannot be loaded .gone.; give a local"), loading(str(tiny_bert)):
        raise OSError("gone")
    assert not asked


def test_a_package_that_is_missing_names_its_extra():
    said = "^model.lora: no_such_package is not installed; pip install 'labelbridge.translation.', or do without$"
    with pytest.raises(InputError, match=said):
        require("no_such_package", "translation", "model.lora", otherwise="do without")
