"""Text for IndicTrans2 and back, on real sentences."""

import importlib.util
import subprocess
import sys

import pytest
from conftest import PROJECT

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.translation import indic
from labelbridge.lightning_app.translation.indic import IndicText, protect, restore

pytestmark = pytest.mark.skipif(importlib.util.find_spec("IndicTransToolkit") is None, reason="extra: indic")


@pytest.mark.parametrize(
    ("text", "told", "entities"),
    [
        ("See https://example.org/a?b=1, please.", "See <ID1>, please.", ["https://example.org/a?b=1"]),
        ("Mail a.b@c.org or visit c.org/x.", "Mail <ID1> or visit <ID2>.", ["a.b@c.org", "c.org/x"]),
        ("@anna: #monsoon is great", "<ID1>: <ID2> is great", ["@anna", "#monsoon"]),
        ("On 12/05/2023 at 10:30.", "On <ID1> at <ID2>.", ["12/05/2023", "10:30"]),
        ("1,200 people, 1,200 chairs", "<ID1> people, <ID1> chairs", ["1,200"]),
        ("१२/०५/२०२३ को", "<ID1> को", ["12/05/2023"]),
        ("It took 3.5 hours in 2023, rated 4/5.", "It took 3.5 hours in 2023, rated 4/5.", []),
        ("See bbc.co.uk, iitb.ac.in or x.org.", "See <ID1>, <ID2> or <ID3>.", ["bbc.co.uk", "iitb.ac.in", "x.org"]),
        ("Read t.in/a and www.food.in now.", "Read <ID1> and <ID2> now.", ["t.in/a", "www.food.in"]),
        ("Great food.in the end", "Great food.in the end", []),
        ("It cast a wide.net for more.info here", "It cast a wide.net for more.info here", []),
        ("The end.Start again", "The end.Start again", []),
        ("two\n lines", "two lines", []),
    ],
)
def test_what_must_not_be_translated_becomes_a_placeholder(text: str, told: str, entities: list[str]):
    assert protect(text) == (told, entities)
    assert (
        restore(told, entities).casefold()
        == " ".join(text.translate({0x966 + n: str(n) for n in range(10)}).split()).casefold()
    )


@pytest.mark.parametrize(
    "written", ["< ID1 > देखें", "<ID1> देखें", "[ID1] देखें", "[ id 1 ] देखें", "<आईडी 1> देखें", "< आई . डी . १ > देखें",
                "<آئی ڈی 1> देखें", "आईडी 1 देखें", "ID1 देखें"]
)  # fmt: skip
def test_a_placeholder_is_filled_however_the_model_spells_it(written: str):
    assert restore(written, ["x.org"]) == "x.org देखें"


def test_an_id_of_the_text_itself_is_left_alone():
    assert restore("मेरी ID 12 है", []) == "मेरी ID 12 है"
    assert restore("<ID1> पर मेरी ID 1 है", ["x.org"]) == "x.org पर मेरी ID 1 है"
    assert restore("<ID7>", ["x.org"]) == "<ID7>"


def test_english_is_tokenized_for_the_model():
    text = "It wasn't good (really); see https://example.org/a."
    assert IndicText("eng_Latn", "hin_Deva").prepare([text]) == ["It wasn 't good ( really ) ; see < ID1 > ."]


@pytest.mark.parametrize(
    ("source", "text", "told"),
    [
        ("hin_Deva", "यह फ़िल्म २०२३ में बनी थी।", "यह फ़िल्म 2023 में बनी थी ।"),
        ("mar_Deva", "हा चित्रपट चांगला आहे.", "हा चित्रपट चांगला आहे ."),
        ("ben_Beng", "আমি ভালো আছি।", "आमि भालो आछि ।"),
        ("guj_Gujr", "ફિલ્મ સારી છે.", "फिल्म सारी छे ."),
        ("tam_Taml", "படம் நன்றாக இருந்தது.", "पटम् नऩ्ऱाक इरुन्ततु ."),
        ("urd_Arab", "یہ فلم بہت اچھی ہے۔", "یہ فلم بہت اچھی ہے ۔"),
    ],
)
def test_scripts_are_unified_but_urdus(source: str, text: str, told: str):
    assert IndicText(source, "eng_Latn").prepare([text]) == [told]


@pytest.mark.parametrize(
    ("target", "written", "text"),
    [
        ("hin_Deva", "यह बहुत अच्छा है , < ID1 > देखें ।", "यह बहुत अच्छा है, https://example.org/a?b=1 देखें।"),
        ("mar_Deva", "हा ( खूप ) चांगला आहे .", "हा (खूप) चांगला आहे."),
        ("urd_Arab", "یہ بہت اچھا ہے ۔ < ID1 >", "یہ بہت اچھا ہے۔ https://example.org/a?b=1"),
        ("ben_Beng", "आमि भालो आछि ।", "আমি ভালো আছি।"),
        ("tam_Taml", "पटम् इरुन्ततु .", "படம் இருந்தது."),
        ("eng_Latn", "See < ID1 > ( now ) , it 's good .", "See https://example.org/a?b=1 (now), it's good."),
    ],
)
def test_what_the_model_writes_becomes_text_of_the_target(target: str, written: str, text: str):
    found = IndicText("hin_Deva" if target == "eng_Latn" else "eng_Latn", target).finish(
        ["https://example.org/a?b=1"], [written]
    )
    assert found == [text]


@pytest.mark.slow
def test_the_order_of_placeholders_is_the_same_in_every_process():
    script = (
        "from labelbridge.lightning_app.translation.indic import IndicText as T;"
        "print(T('eng_Latn', 'hin_Deva').prepare(['a@b.org c@d.org e@f.org http://x.net/q http://y.net/r 10:30 11:45']))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=PROJECT, env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert told == {f"['{' '.join(f'< ID{number} >' for number in range(1, 8))}']\n"}


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    indic._processor.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"IndicTransToolkit is not installed; pip install 'labelbridge\[indic\]'"):
        indic.check_installed()
    monkeypatch.undo()
    indic.check_installed()
