"""Languages by ISO 639 code: their FLORES code, and their script."""

import difflib
import re
from dataclasses import dataclass
from functools import cache

import regex

from .errors import InputError

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
    # Fewer models and detectors know these; a language of three letters has its FLORES code from its script.
    "az": "azj_Latn", "ba": "bak_Cyrl", "be": "bel_Cyrl", "bm": "bam_Latn", "bo": "bod_Tibt", "bs": "bos_Latn",
    "ca": "cat_Latn", "cy": "cym_Latn", "dz": "dzo_Tibt", "ee": "ewe_Latn", "eo": "epo_Latn", "eu": "eus_Latn",
    "ff": "fuv_Latn", "fj": "fij_Latn", "fo": "fao_Latn", "ga": "gle_Latn", "gd": "gla_Latn", "gl": "glg_Latn",
    "gn": "grn_Latn", "ht": "hat_Latn", "hy": "hye_Armn", "is": "isl_Latn", "jv": "jav_Latn", "ki": "kik_Latn",
    "km": "khm_Khmr", "ks": "kas_Arab", "ku": "kmr_Latn", "ky": "kir_Cyrl", "lb": "ltz_Latn", "lg": "lug_Latn",
    "ln": "lin_Latn", "lo": "lao_Laoo", "mg": "plt_Latn", "mi": "mri_Latn", "mk": "mkd_Cyrl", "mn": "khk_Cyrl",
    "mt": "mlt_Latn", "nb": "nob_Latn", "nn": "nno_Latn", "no": "nob_Latn", "ny": "nya_Latn", "oc": "oci_Latn",
    "om": "gaz_Latn", "qu": "quy_Latn", "rn": "run_Latn", "rw": "kin_Latn", "sm": "smo_Latn", "sn": "sna_Latn",
    "sq": "als_Latn", "ss": "ssw_Latn", "st": "sot_Latn", "su": "sun_Latn", "tg": "tgk_Cyrl", "ti": "tir_Ethi",
    "tk": "tuk_Latn", "tn": "tsn_Latn", "ts": "tso_Latn", "tt": "tat_Cyrl", "ug": "uig_Arab", "wo": "wol_Latn",
    "yi": "ydd_Hebr",
}  # fmt: skip
# ISO 15924 codes that stand for several of Unicode's scripts, or one by another name; the others are Unicode's own.
_SCRIPTS = {"Hans": ["Hani"], "Hant": ["Hani"], "Jpan": ["Hani", "Hira", "Kana"], "Kore": ["Hang", "Hani"]}
_LETTERS = regex.compile(r"[\p{L}\p{M}]")


@dataclass(frozen=True)
class Language:
    """A language in a script.

    Args:
        code: As in a row's `lang`: ISO 639, with a script where it is not the usual one (`hi`, `hi-Latn`, `mai-Deva`).
        base: The ISO 639 code alone.
        script: ISO 15924 code, such as `Deva`; None where it is not known.
        flores: What NLLB and IndicTrans2 call it, or None where it has no such name.
    """

    code: str
    base: str
    script: str | None
    flores: str | None

    @property
    def is_usual_script(self) -> bool:
        """Whether this is the script that a language detector expects."""
        usual = FLORES.get(self.base)
        return self.script == (usual.split("_")[1] if usual is not None else None)

    def share_of_script(self, text: str) -> float | None:
        """Share of a text's letters and marks that belong to the script, 0 to 1.

        None for a text without letters, and where the script is not known.
        """
        if self.script is None:
            return None
        letters = len(_LETTERS.findall(text))
        return len(_of_script(self.script).findall(text)) / letters if letters else None


def language(code: str, place: str = "language") -> Language:
    """Look a language up.

    Any ISO 639 code will do; of those that are not listed here, the script is not known unless the code says it.

    Args:
        code: `hi`, or `hi-Latn` for Hindi in Latin letters (Hinglish); `mai-Deva`.
        place: What an error calls the setting that holds the code.

    Raises:
        InputError: If this can be no language's code, if a shorter code is in use, or if there is no such script.
    """
    base, _, script = code.partition("-")
    base, script = base.lower(), script.title()
    longer = {flores.split("_")[0]: short for short, flores in FLORES.items()}
    is_code = re.fullmatch("[a-z]{2,3}", base) and base not in longer
    if not is_code or (script and not _is_script(script)):
        codes = [base[:3]] if base[:3] in longer else [*longer, *FLORES]
        close = [] if is_code else difflib.get_close_matches(base, codes, n=1, cutoff=0.4)
        meant = f"; did you mean {longer.get(close[0], close[0])}?" if close else ""
        raise InputError(
            f"{place} '{code}': expected an ISO 639 code, the one of two letters where there is one, perhaps with a "
            f"script, as hi, hi-Latn or mai-Deva{meant}"
        )
    listed = FLORES.get(base)
    if listed is None:
        return Language(code, base, script or None, f"{base}_{script}" if script and len(base) == 3 else None)
    own = listed.split("_")[1]
    return Language(code, base, script or own, listed if script in ("", own) else None)


def primary(tag: str) -> str | None:
    """The shortest ISO 639 code of a tag (`hi`, `hi-Latn`, `hin_Deva`, `en-GB`), or of a language's English name.

    None for what is no tag and no name that is known.
    """
    base, *further = tag.strip().replace("_", "-").split("-")
    code = base.casefold() if len(base) == 2 else _shortest().get(base.casefold(), base.casefold())
    is_tag = re.fullmatch("[a-z]{2,3}", code) and all(re.fullmatch("[A-Za-z0-9]{1,8}", part) for part in further)
    return code if is_tag else None


@cache
def _shortest() -> dict[str, str]:
    """Codes of three letters and English names -> the code of two letters."""
    from lingua import Language as Detected

    codes = {flores.split("_")[0]: short for short, flores in FLORES.items()}
    for one in Detected.all():
        short = one.iso_code_639_1.name.lower()
        codes |= {one.iso_code_639_3.name.lower(): short, one.name.lower(): short}
    return codes


def _is_script(script: str) -> bool:
    try:
        return bool(re.fullmatch("[A-Z][a-z]{3}", script) and _of_script(script))
    except regex.error:
        return False


@cache
def _of_script(script: str) -> "regex.Pattern[str]":
    scripts = "".join(rf"\p{{Script_Extensions={one}}}" for one in _SCRIPTS.get(script, [script]))
    return regex.compile(rf"(?=[\p{{L}}\p{{M}}])[{scripts}]")
