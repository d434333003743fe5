"""Translations by a converted sequence-to-sequence model: CTranslate2, faster than PyTorch on the same weights."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.paths import find
from labelbridge.lightning_app.core.ranges import Range, Threads, check_ranges
from labelbridge.lightning_app.models.fingerprints import model_fingerprint, tokenizer_fingerprint
from labelbridge.lightning_app.models.locate import CARD_FACTS, CONVERTED

from .sequence_translator import SequenceTranslator
from .translator import Translations

# Whatever tokenizers consist of, and what Labelbridge says of a model that it trained.
_COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "*.spm", "*.model", "vocab.json",
    "generation_config.json", CARD_FACTS,
)  # fmt: skip


class CTranslate2Translator(SequenceTranslator):
    """A model that `ct2-transformers-converter` wrote: NLLB, M2M100, mBART, OPUS-MT, T5.

    `model` is the converted model's folder. Each rank has a translator of its own on the Trainer's device.

    Args:
        tokenizer: Folder or Hub id of the Hugging Face tokenizer, if it was not copied beside the converted weights.
        compute_type: What the weights are computed in; `default` keeps what they were converted to, where the device
            can. Greedy float32 writes the same tokens as the transformers engine.
        inter_threads: Pieces of a batch that are translated at the same time, on CPU.
        intra_threads: Threads of each; 0 for as many as there are cores, at most 4, or `OMP_NUM_THREADS`.
        **sequence: As for `SequenceTranslator`.
    """

    @check_ranges("model.")
    def __init__(
        self,
        tokenizer: str | None = None,
        compute_type: Literal[
            "default", "auto", "float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16",
            "int8_bfloat16", "int16",
        ] = "default",
        inter_threads: Annotated[int, Range(least=1, most=1024)] = 1,
        intra_threads: Threads = 0,
        **sequence: Any,
    ) -> None:  # fmt: skip
        super().__init__(**sequence)
        self.tokenizer_source = tokenizer
        self.compute_type = compute_type
        self.inter_threads = inter_threads
        self.intra_threads = intra_threads

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `TranslatorModule.identity`."""
        own: dict[str, Any] = {"compute_type": self.compute_type, "model": model_fingerprint(self.model_name)}
        if self.tokenizer_source is not None:
            own["tokenizer"] = tokenizer_fingerprint(self.tokenizer_source, self.revision)
        return {**super().identity(subcommand), **own}

    def check(self, subcommand: str) -> None:
        """See `TranslatorModule.check`.

        Raises:
            InputError: If CTranslate2 is not installed, or the folder holds no converted model or no tokenizer, or the
                model does not know a language.
        """
        require("ctranslate2", "translation", "CTranslate2Translator")
        self._check_folder()
        super().check(subcommand)

    @property
    def folder(self) -> Path:
        """The converted model's folder."""
        return find(self.model_name) or Path(self.model_name)

    @property
    def tokenizer_name(self) -> str:
        """Where the tokenizer is."""
        return self.tokenizer_source or self.model_name

    def configure_model(self) -> None:
        """Load the weights, once, onto the rank's device."""
        if self.network is None:
            self.load(self.trainer.strategy.root_device)

    def load(self, device: torch.device) -> None:
        """Load the weights onto a device.

        Raises:
            InputError: If CTranslate2 has no such device, or cannot read the model.
        """
        if device.type not in {"cpu", "cuda"}:
            raise InputError(f"trainer.accelerator: CTranslate2 runs on cpu and cuda, not on {device.type}; choose cpu")
        try:
            self.network = require("ctranslate2", "translation", "CTranslate2Translator").Translator(
                str(self.folder), device=device.type, device_index=device.index or 0, compute_type=self.compute_type,
                inter_threads=self.inter_threads, intra_threads=self.intra_threads,
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"model {self.model_name}: CTranslate2 cannot load it ({reason}); convert it anew"
            ) from None

    def translate(self, texts: list[str]) -> Translations:
        """See `TranslatorModule.translate`."""
        sources, cut = self.encode(texts)
        written = self.network.translate_batch(
            sources,
            target_prefix=[self.first_tokens] * len(sources) if self.first_tokens else None,
            beam_size=self.num_beams,
            max_decoding_length=self.max_new_tokens,
            max_input_length=0,  # cut already, and so marked
            no_repeat_ngram_size=self.no_repeat_ngram_size,
            return_end_token=True,
            max_batch_size=-(-len(sources) // self.inter_threads) if self.inter_threads > 1 else 0,
        )
        return self._read(texts, [one.hypotheses[0] for one in written], cut)

    @property
    def first_tokens(self) -> list[str]:
        """What every translation begins with: the target language, where the model is told it so."""
        first = self.lead.first_token
        return [] if first is None else [self.tokenizer.convert_ids_to_tokens(first)]

    def encode(self, texts: list[str]) -> tuple[list[list[str]], list[bool]]:
        """Texts to tokens, and whether they had to be cut."""
        prefixed = self.prefixed(texts)
        ids = self.tokenizer(prefixed, truncation=True, max_length=self.max_length)["input_ids"]
        return [self.tokenizer.convert_ids_to_tokens(one) for one in ids], self.is_cut(prefixed)

    def decode_tokens(self, texts: list[str], written: list[list[str]]) -> list[str]:
        """Tokens to translations of the texts."""
        return [self.decode(self.tokenizer.convert_tokens_to_ids(tokens)) for tokens in written]

    def _read(self, texts: list[str], written: list[list[str]], cut: list[bool]) -> Translations:
        """Tokens to texts; a row without an end token was cut."""
        end = self._end_token()
        stopped = [bool(tokens) and tokens[-1] == end for tokens in written]
        own = [tokens[:-1] if stop else tokens for tokens, stop in zip(written, stopped, strict=True)]
        return {
            "translation": self.decode_tokens(texts, own),
            "finish": ["stop" if stop and not short else "length" for stop, short in zip(stopped, cut, strict=True)],
            "error": [None] * len(written),
            "n_tokens": [len(tokens) for tokens in own],
        }

    def _end_token(self) -> str:
        settings = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return str(settings.get("eos_token", "</s>"))

    def _check_folder(self) -> None:
        if (self.folder / CONVERTED).is_file():
            names = ("tokenizer.json", "tokenizer_config.json")
            if self.tokenizer_source is None and not any((self.folder / name).is_file() for name in names):
                raise InputError(
                    f"model {self.model_name}: no tokenizer beside {CONVERTED}; give the model that it was converted "
                    "from with --model.tokenizer"
                )
            return
        if find(self.model_name) is None and not _may_be_hub_id(self.model_name):
            raise InputError(f"model {self.model_name}: no such folder; expected a converted model's")
        raise InputError(
            f"model {self.model_name}: no {CONVERTED}, so not a converted model; convert it with "
            f'"{conversion_command(self.model_name)}" and give that folder'
        )


def conversion_command(name: str) -> str:
    """The command that converts a Hugging Face model and puts its tokenizer beside the weights.

    Args:
        name: A local folder or a Hub id.
    """
    folder = find(name)
    if folder is None:
        out = f"{Path(name).name}-ct2"
        return (
            f"ct2-transformers-converter --model {name} --output_dir {out} "
            "--copy_files tokenizer.json tokenizer_config.json"
        )
    files = sorted({file.name for pattern in _COPIED for file in folder.glob(pattern)})
    copied = f" --copy_files {' '.join(files)}" if files else ""
    return f"ct2-transformers-converter --model {name} --output_dir {name.rstrip('/')}-ct2{copied}"


def _may_be_hub_id(name: str) -> bool:
    return not name.startswith((".", "/", "~")) and name.count("/") == 1
