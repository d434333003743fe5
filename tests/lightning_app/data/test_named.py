"""Data sets by name."""

import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.data.sources import Source


def test_a_name_stands_for_the_source_of_a_data_file():
    source = Source("data:sst5/dev")
    assert source == Source(
        "hub:SetFit/sst5",
        split="validation",
        columns={"label": "label_text"},
        label_map={"very negative": "negative", "very positive": "positive"},
        language="en",
    )


def test_targets_have_names_too():
    assert Source("data:xnli/ur") == Source("hub:facebook/xnli", subset="ur", split="test", language="ur")


def test_settings_that_are_given_win():
    source = Source("data:snli/train", per_class=10, stop=500)
    assert (source.per_class, source.stop, source.language) == (10, 500, "en")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("data:sst/dev", "data:sst/dev: no data set of this name in configs/data, did you mean 'sst5'?"),
        ("data:sst5/deb", "data:sst5/deb: not in sst5.yaml, did you mean 'dev'?"),
        ("data:sst5", "data:sst5: no data set of this name in configs/data, did you mean 'sst5'?"),
        ("data:xnli/te", "data:xnli/te: not in xnli.yaml, expected one of hi-dev, hi, ur-dev, ur, sw-dev, sw"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_closest(path: str, message: str):
    with pytest.raises(InputError) as caught:
        Source(path)
    assert str(caught.value) == message
