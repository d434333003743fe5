"""Each gate on failures as translation models make them, and on good translations that look a little like them."""

import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.translation.gates import Gates, judge, left_out


def reason(
    source: str, translation: str | None, code: str = "hi", gates: Gates | None = None, **more: str
) -> str | None:
    finish, error = more.get("finish"), more.get("error")
    (found,) = judge([source], [translation], gates or Gates(), language(code), [finish], [error])
    return found


@pytest.mark.parametrize(
    ("source", "translation", "code", "expected"),
    [
        ("The food was good.", "", "hi", "empty"),
        ("The food was good.", "   ", "hi", "empty"),
        ("The food was good.", None, "hi", "empty"),
        ("A pianist from Lwów played.", "<unk> से एक पियानोवादक ने बजाया।", "hi", "unknown"),
        ("A pianist from Lwów played.", "लव ⁇ व से एक पियानोवादक ने बजाया।", "hi", "unknown"),
        ("The food was good.", "खाना अच्छा � था।", "hi", "unknown"),
        ("The room was clean and quiet.", "कमरा साफ और साफ और साफ और साफ और साफ था", "hi", "repetition"),
        ("I liked it.", "मुझे यह पसंद आया पसंद आया पसंद आया पसंद आया पसंद आया", "hi", "repetition"),
        ("A good film.", "बबबबबबबबबबबबबबबबबबबबबबब", "hi", "repetition"),
        ("They achieved their goal today.", "They achieved their goal today.", "sw", "copy"),
        ("They achieved their goal today.", "they achieved their goal today", "hi", "copy"),
        ("The waiter brought the wrong dish twice and then argued about it.", "ठीक।", "hi", "length"),
        ("Fine film.", "यह एक ऐसी फिल्म है जिसके बारे में बहुत से लोगों ने बहुत कुछ कहा और लिखा है।", "hi", "length"),
        ("We moved here in 1968.", "हम यहाँ बहुत पहले आए थे।", "hi", "numbers"),
        ("It costs 1,250 rupees.", "इसकी कीमत 1,350 रुपये है।", "hi", "numbers"),
        ("It costs 1,250 rupees.", "इसकी कीमत 2,250 रुपये है।", "hi", "numbers"),
        ("It was sold on 25/05/2023.", "यह 24 मई 2023 को बिका।", "hi", "numbers"),
        ("It was sold on 12/05/2023.", "यह 12 मई 2022 को बिका।", "hi", "numbers"),
        ("The train leaves at 10:30.", "ट्रेन 10 बजकर 20 मिनट पर छूटती है।", "hi", "numbers"),
        ("Open 24/7 all year.", "साल भर खुला रहता है।", "hi", "numbers"),
        ("I was not aware of it.", "Mujhe iske baare me nahi pata tha", "hi", "script"),
        ("I was not aware of it.", "مجھے اس کا علم نہیں تھا۔", "hi", "script"),
        ("The soup was cold and the bread was old.", "La sopa estaba fría y el pan era viejo.", "sw", "language"),
        ("We waited an hour for our table.", "हमने अपनी मेज के लिए एक घंटे तक इंतजार किया और फिर चले गए।", "mr", "language"),
    ],
)  # fmt: skip
def test_a_bad_translation_fails(source: str, translation: str, code: str, expected: str):
    assert reason(source, translation, code) == expected


@pytest.mark.parametrize(
    ("source", "translation", "code"),
    [
        ("The food was good.", "खाना अच्छा था।", "hi"),
        ("The food was good.", "جیسا کہ کھانا بہت اچھا تھا۔", "ur"),
        ("We met in 2008.", "आम्ही २००८ मध्ये भेटलो.", "mr"),
        ("It costs 1,250 rupees.", "इसकी कीमत 1250 रुपये है।", "hi"),
        ("It costs 1,250 rupees.", "Cela coûte 1 250 roupies.", "fr"),
        ("It costs 1,250,000 rupees.", "इसकी कीमत १२,५०,००० रुपये है।", "hi"),
        ("Here 12 100 watt bulbs burn.", "यहाँ 100 वाट के 12 बल्ब जलते हैं।", "hi"),
        ("I give it 4/5.", "मैं इसे 5 में से 4 देता हूँ।", "hi"),
        ("Open 24/7.", "24 घंटे 7 दिन खुला।", "hi"),
        ("It was sold on 12/05/2023.", "यह 12 मई 2023 को बिका।", "hi"),
        ("It was sold on 05/07/2023.", "यह 5 जुलाई 2023 को बिका।", "hi"),
        ("It was sold on 2023-12-31.", "यह 31 दिसंबर 2023 को बिका।", "hi"),
        ("The train leaves at 10:30.", "ट्रेन 10 बजकर 30 मिनट पर छूटती है।", "hi"),
        ("The train leaves at 09:45.", "ट्रेन 9 बजकर 45 मिनट पर छूटती है।", "hi"),
        ("I have 3 cats.", "मेरे पास तीन बिल्लियाँ हैं।", "hi"),
        ("no, no, no, no!", "नहीं, नहीं, नहीं, नहीं!", "hi"),
        ("Very very very good.", "बहुत बहुत बहुत अच्छा।", "hi"),
        ("Tom Hanks", "Tom Hanks", "sw"),
        ("So good!", "कितनी अच्छी बात है!", "hi"),
        ("The Galaxy S9 from Samsung is fine.", "Samsung का Galaxy S9 फ़ोन अच्छा है।", "hi"),
        ("5/5", "5/5", "hi"),
        ("The soup was cold and the bread was old.", "Supu ilikuwa baridi na mkate ulikuwa wa zamani.", "sw"),
    ],
)  # fmt: skip
def test_a_good_translation_passes(source: str, translation: str, code: str):
    assert reason(source, translation, code) is None


def test_a_translation_that_was_cut_or_failed_never_passes():
    off = Gates(False, None, None, False, None, None, False, False)
    assert reason("The food was good.", "खाना अच्छा", gates=off, finish="length") == "cut"
    assert reason("The food was good.", None, gates=off, error="RuntimeError: out of memory") == "failed"


@pytest.mark.parametrize(
    ("source", "translation", "off"),
    [
        ("A pianist.", "<unk> पियानोवादक", {"unknown": False}),
        ("A good film.", "अच्छी अच्छी अच्छी अच्छी", {"repetition": None}),
        ("They achieved their goal.", "They achieved their goal.", {"copy": False, "script": None, "language": False}),
        ("A long sentence about a film that nobody has seen.", "ठीक", {"shortest": None}),
        ("Good.", "यह बहुत ही अच्छी फिल्म है, सब लोग इसे देखें।", {"longest": None}),
        ("In 1968.", "बहुत पहले।", {"numbers": False}),
        ("I did not know it.", "Mujhe nahi pata tha", {"script": None, "language": False}),
    ],
)  # fmt: skip
def test_every_gate_can_be_switched_off(source: str, translation: str, off: dict[str, object]):
    assert reason(source, translation) is not None
    assert reason(source, translation, gates=Gates(**off)) is None


def test_a_text_that_was_meant_to_stay_is_no_copy():
    text = "They achieved their goal today."
    assert judge([text] * 2, [text] * 2, Gates(), language("sw"), left_alone=[True, False])[1] == "copy"
    no_detector = Gates(language=False)
    assert judge([text], [text], no_detector, language("sw"), left_alone=[True]) == [None]


def test_hinglish_is_judged_by_its_latin_letters():
    assert reason("I did not know about it.", "Mujhe iske baare me nahi pata tha yaar", "hi-Latn") is None
    assert reason("I did not know about it.", "मुझे इसके बारे में नहीं पता था", "hi-Latn") == "script"


def test_a_gate_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="gates.script is 2, expected 0 <= script <= 1"):
        Gates(script=2)
    with pytest.raises(InputError, match="gates.repetition is 1, expected 2 <= repetition"):
        Gates(repetition=1)
    with pytest.raises(InputError, match="gates.shortest is 2, above gates.longest 1, expected shortest <= longest"):
        Gates(shortest=2, longest=1)


@pytest.mark.parametrize(
    ("code", "meant"),
    [("hindi", "hi"), ("hin", "hi"), ("hin_Deva", "hi"), ("swh", "sw"), ("xx1", "xh"), ("", ""), ("hi-Xxxx", ""),
     ("mai-Devanagari", "")],
)  # fmt: skip
def test_what_is_no_languages_code_is_refused(code: str, meant: str):
    with pytest.raises(InputError, match=f"language '{code}': expected an ISO 639 code") as refused:
        language(code)
    assert str(refused.value).partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


def test_a_language_that_is_not_listed_serves_too():
    plain, written = language("mai"), language("mai-Deva")
    assert (plain.script, plain.flores, plain.share_of_script("नीक")) == (None, None, None)
    assert (written.base, written.script, written.flores) == ("mai", "Deva", "mai_Deva")
    assert written.share_of_script("नीक food") == pytest.approx(3 / 7)
    assert (language("sat-Olck").share_of_script("ᱡᱚᱦᱟᱨ"), language("sa-Latn").flores) == (1, None)
    assert all(language(code).script for code in ("qu", "gn", "ks", "ca", "no", "hy", "km", "lo", "cy"))


@pytest.mark.parametrize("code", ["kn", "am", "no", "mai", "mai-Deva", "hi-Latn"])
def test_a_language_that_the_detector_does_not_know_is_not_judged_by_it(code: str):
    off = Gates(script=None)
    assert reason("The soup was cold and the bread was old.", "La sopa estaba fría y el pan viejo.", code, off) is None


def test_gates_that_can_say_nothing_of_a_language_are_told():
    assert left_out(Gates(), language("hi")) == left_out(Gates(), language("hi-Latn")) == []
    assert left_out(Gates(), language("kn")) == ["gates.language: left out, the detector does not know 'kn'"]
    script, detector = left_out(Gates(), language("mai"))
    assert script.startswith("gates.script: left out, the script of 'mai' is not known; add it")
    assert detector == "gates.language: left out, the detector does not know 'mai'"
    assert left_out(Gates(script=None, language=False), language("mai")) == []


def test_languages_know_their_script_and_their_flores_code():
    assert (language("hi").script, language("hi").flores) == ("Deva", "hin_Deva")
    assert (language("hi-Latn").script, language("hi-Latn").flores) == ("Latn", None)
    assert language("ur").share_of_script("یہ good ہے") == pytest.approx(4 / 8)
    assert language("ja").share_of_script("これは本です") == 1
    assert language("hi").share_of_script("123 !") is None
