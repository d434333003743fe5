"""Keys in a configuration are in nothing that a run writes down."""

import pytest

from labelbridge.lightning_app.core.secrets import mask, mask_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:sesame@host:80/v1", "http://***@host:80/v1"),
        ("https://host/v1?api_key=sesame&model=m", "https://host/v1?api_key=***&model=m"),
        ("https://host/v1?key=sesame", "https://host/v1?key=***"),
        ("{api_key: sesame, top_k: -1}", "{api_key: ***, top_k: -1}"),
        ('{"Authorization": "Bearer sesame"}', '{"Authorization": "***"}'),
        ("extra_headers:\n  X-Api-Key: sesame\n  n: 1", "extra_headers:\n  X-Api-Key: ***\n  n: 1"),
        ("--model.extra.token=sesame", "--model.extra.token=***"),
        ("hf_token: sesame", "hf_token: ***"),
        ("max_tokens: 96, max_token: 96", "max_tokens: 96, max_token: 96"),
        ("--model.api_key_variable=MY_KEY", "--model.api_key_variable=MY_KEY"),
        ("api_key: null", "api_key: null"),
        ("{label_map: {key: positive, token: negative}}", "{label_map: {key: positive, token: negative}}"),
        ("tokens_per_batch: 4096", "tokens_per_batch: 4096"),
    ],
)
def test_secrets_inside_of_texts(text: str, shown: str):
    assert mask_text(text) == shown
    assert mask_text(shown) == shown


def test_secrets_under_their_names():
    given = {
        "extra": {"api_key": "sesame", "top_k": -1, "headers": [{"Authorization": "Bearer sesame"}]},
        "max_tokens": 5,
    }
    shown = {"extra": {"api_key": "***", "top_k": -1, "headers": [{"Authorization": "***"}]}, "max_tokens": 5}
    assert mask(given) == shown
