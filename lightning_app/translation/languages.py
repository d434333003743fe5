"""Languages by ISO 639-1 code: their script, and what translation models call them."""

from dataclasses import dataclass
from functools import cache

import regex

from lightning_app.errors import InputError

# ISO 639-1 -> FLORES-200 code (NLLB, IndicTrans2), whose second half is the ISO 15924 script.
FLORES = {
    "af": "afr_Latn", "am": "amh_Ethi", "ar": "arb_Arab", "as": "asm_Beng", "bg": "bul_Cyrl", "bn": "ben_Beng",
    "cs": "ces_Latn", "da": "dan_Latn", "de": "deu_Latn", "el": "ell_Grek", "en": "eng_Latn", "es": "spa_Latn",
    "et": "est_Latn", "fa": "pes_Arab", "fi": "fin_Latn", "fr": "fra_Latn", "gu": "guj_Gujr", "ha": "hau_Latn",
    "he": "heb_Hebr", "hi": "hin_Deva", "hr": "hrv_Latn", "hu": "hun_Latn", "id": "ind_Latn", "ig": "ibo_Latn",
    "it": "ita_Latn", "ja": "jpn_Jpan", "ka": "kat_Geor", "kk": "kaz_Cyrl", "kn": "kan_Knda", "ko": "kor_Hang",
    "lt": "lit_Latn", "lv": "lvs_Latn", "ml": "mal_Mlym", "mr": "mar_Deva", "ms": "zsm_Latn", "my": "mya_Mymr",
    "ne": "npi_Deva", "nl": "nld_Latn", "or": "ory_Orya", "pa": "pan_Guru", "pl": "pol_Latn", "ps": "pbt_Arab",
    "pt": "por_Latn", "ro": "ron_Latn", "ru": "rus_Cyrl", "sa": "san_Deva", "sd": "snd_Arab", "si": "sin_Sinh",
    "sk": "slk_Latn", "sl": "slv_Latn", "so": "som_Latn", "sr": "srp_Cyrl", "sv": "swe_Latn", "sw": "swh_Latn",
    "ta": "tam_Taml", "te": "tel_Telu", "th": "tha_Thai", "tl": "tgl_Latn", "tr": "tur_Latn", "uk": "ukr_Cyrl",
    "ur": "urd_Arab", "uz": "uzn_Latn", "vi": "vie_Latn", "xh": "xho_Latn", "yo": "yor_Latn", "zh": "zho_Hans",
    "zu": "zul_Latn",
}  # fmt: skip
# ISO 15924 -> the Unicode scripts that texts in it consist of.
_SCRIPTS = {
    "Arab": ["Arabic"], "Beng": ["Bengali"], "Cyrl": ["Cyrillic"], "Deva": ["Devanagari"], "Ethi": ["Ethiopic"],
    "Geor": ["Georgian"], "Grek": ["Greek"], "Gujr": ["Gujarati"], "Guru": ["Gurmukhi"], "Hang": ["Hangul"],
    "Hans": ["Han"], "Hant": ["Han"], "Hebr": ["Hebrew"], "Jpan": ["Han", "Hiragana", "Katakana"], "Knda": ["Kannada"],
    "Latn": ["Latin"], "Mlym": ["Malayalam"], "Mymr": ["Myanmar"], "Orya": ["Oriya"], "Sinh": ["Sinhala"],
    "Taml": ["Tamil"], "Telu": ["Telugu"], "Thai": ["Thai"],
}  # fmt: skip
_LETTERS = regex.compile(r"[\p{L}\p{M}]")


@dataclass(frozen=True)
class Language:
    """A language in a script.

    Args:
        code: As in a row's `lang`: ISO 639-1, with a script where it is not the usual one (`hi`, `hi-Latn`).
        base: The ISO 639-1 code alone.
        script: ISO 15924 code, such as `Deva`.
        flores: What NLLB and IndicTrans2 call it, or None where it has no such name.
    """

    code: str
    base: str
    script: str
    flores: str | None

    @property
    def is_usual_script(self) -> bool:
        """Whether this is the script that a language detector expects."""
        return self.script == FLORES[self.base].split("_")[1]

    def share_of_script(self, text: str) -> float | None:
        """Share of a text's letters and marks that belong to the script, 0 to 1; None for a text without letters."""
        letters = len(_LETTERS.findall(text))
        return len(_of_script(self.script).findall(text)) / letters if letters else None


def language(code: str, place: str = "language") -> Language:
    """Look a language up.

    Args:
        code: `hi`, or `hi-Latn` for Hindi in Latin letters (Hinglish).
        place: What an error calls the setting that holds the code.

    Raises:
        InputError: If the language or the script is not known here.
    """
    base, _, script = code.partition("-")
    flores = FLORES.get(base.lower())
    if flores is None or (script and script.title() not in _SCRIPTS):
        raise InputError(
            f"{place} '{code}': expected an ISO 639-1 code such as hi or sw, perhaps with a script as in hi-Latn; "
            "see lightning_app/translation/languages.py"
        )
    own = flores.split("_")[1]
    chosen = script.title() or own
    return Language(code, base.lower(), chosen, flores if chosen == own else None)


@cache
def _of_script(script: str) -> "regex.Pattern[str]":
    scripts = "".join(rf"\p{{Script_Extensions={one}}}" for one in _SCRIPTS[script])
    return regex.compile(rf"(?=[\p{{L}}\p{{M}}])[{scripts}]")
