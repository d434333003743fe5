"""Text from a causal language model on the Trainer's device."""

# B = rows of a batch, L = tokens of an answer with padding

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from labelbridge.lightning_app.core.documents import read_json
from labelbridge.lightning_app.core.errors import InputError, shorten
from labelbridge.lightning_app.core.ranges import NonNegativeInt, check_ranges
from labelbridge.lightning_app.models.chat_templates import check_chat_template, render_chat, template_errors
from labelbridge.lightning_app.models.fingerprints import model_fingerprint
from labelbridge.lightning_app.models.loading import (
    check_vocabulary,
    load_tokenizer,
    loading,
    longest_sequence,
    unknown_window,
)
from labelbridge.lightning_app.models.locate import gguf_file, locate
from labelbridge.lightning_app.models.networks import check_complete, probe_logits, probe_tokens

from .decoding import generate
from .generator import Answers, GeneratorModule
from .sampling import BigramBlock, DrawPerRow, TakeLikeliest

# A line break as it is, as a byte, and as GPT-2's vocabulary spells it.
LINE_BREAKS = ("\n", "<0x0A>", "\u010a")


class TransformersGenerator(GeneratorModule):
    """Any causal language model of the Hub, a folder or a GGUF file, on the Trainer's device.

    Every row is sampled from random numbers of its own, seeded by `seed` and the row's id, so a resumed run equals an
    uninterrupted one under the same batch plan.

    Args:
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        top_k: Keep the k most likely tokens; 0 for a true nucleus.
        no_repeated_bigrams: `generated` bans a bigram from coming twice in the answer; `with_prompt` bans the prompt's
            too, as the paper's code does; `off`.
        quantization: `nf4` loads in 4-bit with double quantisation and bfloat16 compute (bitsandbytes).
        dtype: Type of the weights where they are not quantised; those of a GGUF file are converted to it.
        prompt_format: `chat` uses the tokenizer's chat template. `completion`, for base models, puts labelled examples
            from the prompt file in front, and ends a text at its first line break. `auto` is `chat` if the tokenizer
            has a chat template.
        **generator: As for `GeneratorModule`.
    """

    HAS_FILES: ClassVar[bool] = True

    @check_ranges("model.")
    def __init__(
        self,
        trust_remote_code: bool = False,
        revision: str | None = None,
        top_k: NonNegativeInt = 0,
        no_repeated_bigrams: Literal["generated", "with_prompt", "off"] = "generated",
        quantization: Literal["nf4"] | None = None,
        dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
        prompt_format: Literal["auto", "chat", "completion"] = "auto",
        **generator: Any,
    ) -> None:
        super().__init__(**generator)
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.top_k = top_k
        self.no_repeated_bigrams = no_repeated_bigrams
        self.quantization = quantization
        self.dtype_name = dtype
        self.prompt_format = prompt_format
        self.network: Any = None
        self._tokenizer: Any = None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `GeneratorModule.identity`."""
        return {
            **super().identity(subcommand),
            "top_k": self.top_k,
            "no_repeated_bigrams": self.no_repeated_bigrams,
            "quantization": self.quantization,
            "dtype": self.dtype_name,
            "prompt_format": self.prompt_format,
            "model": model_fingerprint(self.model_name, self.revision),
        }

    def check(self, subcommand: str) -> None:
        """See `GeneratorModule.check`.

        Raises:
            InputError: If there is no such model, its tokenizer and network do not fit together, its texts could not
                end, its chat template fails, or `prompt_format` is `chat` and its tokenizer has no chat template.
        """
        config = self._config  # before the tokenizer, which reads it too and would be blamed for it
        if self.prompt_format == "chat" and self.tokenizer.chat_template is None:
            raise InputError(
                f"model {self.model_name}: its tokenizer has no chat template; use a chat or instruct model, or "
                "--model.prompt_format completion"
            )
        if self.quantization is not None and gguf_file(self.model_name) is not None:
            raise InputError(f"model {self.model_name}: quantization {self.quantization} does not apply to a GGUF file")
        check_vocabulary(self.tokenizer, config, self.model_name)
        self._check_length(0)
        if not self.is_completion:
            check_chat_template(self.tokenizer, self.model_name)
        if not self.end_tokens:
            raise InputError(
                f"model {self.model_name}: no end token, so that no text would end by itself; set eos_token_id in its "
                "generation_config.json"
            )

    @property
    def is_completion(self) -> bool:
        """Whether prompts are labelled examples and a line to complete, not a chat."""
        return self.prompt_format == "completion" or (
            self.prompt_format == "auto" and self.tokenizer.chat_template is None
        )

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, which pads on the left."""
        if self._tokenizer is None:
            tokenizer = load_tokenizer(
                self.model_name, **self._source, padding_side="left", trust_remote_code=self.trust_remote_code,
                revision=self.revision,
            )  # fmt: skip
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            if tokenizer.pad_token is None:
                raise InputError(
                    f"model {self.model_name}: its tokenizer has no pad token and no end token; set one of them in its "
                    "tokenizer_config.json"
                )
            self._tokenizer = tokenizer
        return self._tokenizer

    @cached_property
    def _config(self) -> Any:
        """The network's configuration."""
        with loading(self.model_name):
            return AutoConfig.from_pretrained(
                **self._source, trust_remote_code=self.trust_remote_code, revision=self.revision
            )

    @cached_property
    def _generation_config(self) -> GenerationConfig:
        """What the model says of its tokens.

        Raises:
            InputError: If its file cannot be read.
        """
        if (file := Path(locate(self.model_name)) / "generation_config.json").is_file():
            read_json(file, "copy the model's folder again")
        with loading(self.model_name, "its generation_config.json", "fix that file"):
            try:
                if gguf_file(self.model_name) is None:
                    return GenerationConfig.from_pretrained(locate(self.model_name), revision=self.revision)
            except OSError:
                pass  # has none
            return GenerationConfig.from_model_config(self._config)

    @property
    def _source(self) -> dict[str, str]:
        """Where `from_pretrained` finds the model."""
        file = gguf_file(self.model_name)
        if file is None:
            return {"pretrained_model_name_or_path": locate(self.model_name)}
        return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}

    def configure_model(self) -> None:
        """Load the weights, once, onto the device."""
        if self.network is not None:
            return
        options: dict[str, Any] = {"dtype": getattr(torch, self.dtype_name)}
        if self.quantization == "nf4":
            options = {
                "quantization_config": BitsAndBytesConfig(
                    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                    bnb_4bit_compute_dtype=torch.bfloat16,
                ),
                "device_map": {"": self.trainer.strategy.root_device},
                "dtype": torch.bfloat16,
            }  # fmt: skip
        with loading(self.model_name):
            network, info = AutoModelForCausalLM.from_pretrained(
                **self._source, trust_remote_code=self.trust_remote_code, revision=self.revision,
                output_loading_info=True, **options,
            )  # fmt: skip
        check_complete(
            info["missing_keys"], info["unexpected_keys"], network, self.model_name,
            "a causal language model with all weights",
        )  # fmt: skip
        probe_logits(network, self.model_name)
        # Nothing but the tokens: `generate` would add the model's own beam size, penalties and banned tokens to ours.
        network.generation_config = GenerationConfig(bos_token_id=self._generation_config.bos_token_id)
        self.network = network.eval()
        self._try_to_write()

    @torch.no_grad()
    def _try_to_write(self) -> None:
        """Write a few tokens after two short prompts, one of them padded: a cache may fail where logits do not.

        Raises:
            InputError: If the network cannot go on with what it has cached.
        """
        prompt_L = probe_tokens(self.network.config)[0]
        ids_BL = torch.stack([prompt_L, prompt_L]).to(self.network.device)
        mask_BL = torch.ones_like(ids_BL)
        mask_BL[1, 0] = 0
        with loading(self.model_name, "its texts", "copy the model's folder again, with its own config.json"):
            generate(
                self.network,
                {"input_ids": ids_BL, "attention_mask": mask_BL},
                lambda *_: LogitsProcessorList(),
                self._writing(max_new_tokens=2),
            )

    def answer(self, ids: list[str], systems: list[str], users: list[str], completions: list[str | None]) -> Answers:
        """See `GeneratorModule.answer`.

        Raises:
            InputError: If a base model's prompt has no examples.
        """
        inputs = (self.encode_completions(completions) if self.is_completion else self.encode(systems, users)).to(
            self.device
        )
        self._check_length(inputs["input_ids"].shape[1])
        end = self.end_tokens
        with torch.no_grad():
            written = generate(
                self.network,
                inputs,
                lambda rows, so_far: self.processors([ids[row] for row in rows], inputs["input_ids"].shape[1], so_far),
                self._writing(self.max_new_tokens),
            )
        answers: Answers = {"text": [], "finish": [], "error": [], "n_tokens": []}
        for row in written:
            stop = next((place for place, token in enumerate(row) if token in end), None)
            length = len(row) if stop is None else stop
            # A token with a line break may have text before it.
            decoded = row[: length + 1] if stop is not None and row[stop] in self.line_breaks else row[:length]
            text = self.tokenizer.decode(decoded, skip_special_tokens=True)
            answers["text"].append(text.split("\n")[0].strip() if self.is_completion else text)
            answers["finish"].append("length" if stop is None else "stop")
            answers["error"].append(None)
            answers["n_tokens"].append(length)
        return answers

    def _writing(self, max_new_tokens: int) -> GenerationConfig:
        """How texts are written: a config of our own, so that the model's defaults (such as top_k 50) do not apply."""
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,  # sampling is the last of the processors
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=sorted(self.end_tokens),
            bos_token_id=self._generation_config.bos_token_id,
        )

    def encode(self, systems: list[str], users: list[str]) -> Any:
        """Chats to padded ids; where the template knows no system role, the rules come before the request."""
        with template_errors(self.model_name):
            texts = [render_chat(self.tokenizer, *request) for request in zip(systems, users, strict=True)]
        return self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")

    def encode_completions(self, completions: list[str | None]) -> Any:
        """A base model's prompts to padded ids.

        Raises:
            InputError: If a prompt has no examples.
        """
        texts = [text for text in completions if text is not None]
        if len(texts) < len(completions):
            raise InputError(
                "data.prompts: no examples in the language to write in, which a base model requires; add `examples` to "
                "the prompt file, or use a chat model"
            )
        return self.tokenizer(texts, padding=True, return_tensors="pt")

    @cached_property
    def line_breaks(self) -> set[int]:
        """For a base model, the tokens with a line break, however the vocabulary spells it."""
        if not self.is_completion:
            return set()
        vocabulary = self.tokenizer.get_vocab().items()
        spelt = [token for text, token in vocabulary if any(sign in text for sign in LINE_BREAKS)]
        return {token for token in spelt if "\n" in self.tokenizer.decode([token])}

    @cached_property
    def end_tokens(self) -> set[int]:
        """The tokens that end a text: the model's own and, for a base model, those with a line break."""
        own = self._generation_config.eos_token_id
        ends = {*(own if isinstance(own, list) else [own]), self.tokenizer.eos_token_id} - {None}
        if not all(isinstance(end, int) for end in ends):
            raise InputError(
                f"model {self.model_name}: eos_token_id in its generation_config.json is {shorten(own)}, expected a "
                "token's number; fix that file"
            )
        return ends | self.line_breaks

    def _check_length(self, prompt: int) -> None:
        """Refuse texts that get longer than the network can follow.

        Args:
            prompt: Tokens of the longest prompt of a batch.

        Raises:
            InputError: If prompt and answer together have more tokens than the network has positions.
        """
        config = self._config.get_text_config()
        limits = [limit for limit in (longest_sequence(config), unknown_window(config)) if limit is not None]
        if limits and prompt + self.max_new_tokens > (longest := min(limits)):
            given = f"a prompt of {prompt} tokens and {self.max_new_tokens}" if prompt else str(self.max_new_tokens)
            raise InputError(
                f"model {self.model_name}: {given} new tokens are more than the {longest} that it takes; lower "
                f"--model.max_new_tokens{', or shorten the prompts' if prompt else ''}"
            )

    def processors(self, ids: list[str], prompt: int, so_far: int = 0) -> LogitsProcessorList:
        """Bigram block, then the draw with temperature, top-k and nucleus, or the check of what is likeliest.

        Args:
            ids: The ids of the rows that are being written.
            prompt: Tokens of a prompt, padding included.
            so_far: Tokens that the rows have already.
        """
        chain: list[LogitsProcessor] = []
        if self.no_repeated_bigrams != "off":
            chain.append(BigramBlock(prompt if self.no_repeated_bigrams == "generated" else 0))
        chain.append(
            DrawPerRow(
                ids, self.seed, self.max_new_tokens, float(self.temperature), self.top_k, self.top_p, step=so_far
            )
            if self.temperature > 0
            else TakeLikeliest()
        )
        return LogitsProcessorList(chain)
