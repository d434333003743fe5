"""Languages by their codes and names."""

import pytest

from labelbridge.lightning_app.core.languages import primary


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("hi", "hi"), ("HI", "hi"), ("hin", "hi"), ("Hindi", "hi"), ("hi-Latn", "hi"), ("hin_Deva", "hi"), ("en-GB", "en"),
        ("swh", "sw"), ("swa", "sw"), ("mai-Deva", "mai"), ("zh-Hans-CN", "zh"), ("", None), ("x", None), ("codemix", None),
        ("en gb", None), ("en-", None),
    ],
)  # fmt: skip
def test_a_language_has_one_shortest_code(tag: str, code: str | None):
    assert primary(tag) == code
