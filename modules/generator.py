"""Modules that write text: one contract, two engines."""

# B = rows of a batch, L = tokens of a prompt with padding, T = tokens of an answer, V = vocabulary

import asyncio
import json
import logging
import os
from hashlib import blake2b
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lightning_app.errors import InputError
from lightning_app.models import locate, model_fingerprint
from lightning_app.task import Task

log = logging.getLogger(__name__)

Answers = dict[str, list[Any]]


class GeneratorModule(LightningModule):
    """What both engines share: `predict` gives each prompt `text`, `finish`, `error` and `n_tokens`.

    `finish` is `stop` or `length` (cut at the limit); a row that failed has no text, and its reason in `error`.

    Args:
        task: Text columns and labels of what is written.
        model: The model's name.
        max_new_tokens: Longest answer.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_p: Nucleus: the smallest set of tokens with this much probability.
        seed: Seed of sampling; linked to `seed_everything`.
    """

    STAGES: ClassVar[dict[str, str]] = {"predict": "generate"}

    def __init__(
        self,
        task: Task,
        model: str,
        max_new_tokens: int = 256,
        temperature: float = 1.5,
        top_p: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
            raise InputError(
                f"model: max_new_tokens {max_new_tokens}, temperature {temperature}, top_p {top_p}; expected at "
                "least 1, at least 0, above 0 up to 1"
            )
        self.task = task
        self.model_name = model
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows that a run writes; JSON values."""
        names = ("max_new_tokens", "temperature", "top_p", "seed")
        return {"class": type(self).__name__, "task": vars(self.task), **{name: getattr(self, name) for name in names}}

    def check(self, subcommand: str) -> None:
        """Refuse a model that cannot serve, before any row is read."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Answers:
        """Answers to a batch of prompts."""
        answers = self.answer(batch["id"], batch["system"], batch["user"])
        # What is reported as tokens/s is what was written; padding, what the longest answer made others wait for.
        batch["n_tokens"] = sum(answers["n_tokens"])
        batch["n_cells"] = max([*answers["n_tokens"], 1]) * len(answers["n_tokens"])
        return answers

    def answer(self, ids: list[str], systems: list[str], users: list[str]) -> Answers:
        """Given by the engines."""
        raise NotImplementedError


class TransformersGenerator(GeneratorModule):
    """Any causal language model of the Hub, with its own chat template, on the Trainer's device.

    Every row is sampled from random numbers of its own, seeded by `seed` and the row's id, so a resumed run equals an
    uninterrupted one under the same batch plan.

    Args:
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        top_k: Keep the k most likely tokens; 0 for a true nucleus.
        no_repeated_bigrams: `generated` bans a bigram from coming twice in the answer; `with_prompt` bans the prompt's
            too, as the paper's code does; `off`.
        quantization: `nf4` loads in 4-bit with double quantisation and bfloat16 compute (bitsandbytes).
        dtype: Type of the weights where they are not quantised.
        **generator: As for `GeneratorModule`.
    """

    def __init__(
        self,
        trust_remote_code: bool = False,
        revision: str | None = None,
        top_k: int = 0,
        no_repeated_bigrams: Literal["generated", "with_prompt", "off"] = "generated",
        quantization: Literal["nf4"] | None = None,
        dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
        **generator: Any,
    ) -> None:
        super().__init__(**generator)
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.top_k = top_k
        self.no_repeated_bigrams = no_repeated_bigrams
        self.quantization = quantization
        self.dtype_name = dtype
        self.network: Any = None
        self._tokenizer: Any = None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `GeneratorModule.identity`."""
        names = ("top_k", "no_repeated_bigrams", "quantization")
        own = {name: getattr(self, name) for name in names}
        return {**super().identity(subcommand), **own, "model": model_fingerprint(self.model_name)}

    def check(self, subcommand: str) -> None:
        """See `GeneratorModule.check`.

        Raises:
            InputError: If there is no such model, or its tokenizer has no chat template.
        """
        if self.tokenizer.chat_template is None:
            raise InputError(
                f"model {self.model_name}: its tokenizer has no chat template; use a chat or instruct model"
            )

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, which pads on the left."""
        if self._tokenizer is None:
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(
                    locate(self.model_name), padding_side="left", trust_remote_code=self.trust_remote_code,
                    revision=self.revision,
                )  # fmt: skip
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:160]
                raise InputError(
                    f"model {self.model_name}: cannot be loaded ({reason}); give a local folder or a Hub id"
                ) from None
            if self._tokenizer.pad_token is None:
                self._tokenizer.pad_token = self._tokenizer.eos_token
        return self._tokenizer

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
        self.network = AutoModelForCausalLM.from_pretrained(
            locate(self.model_name), trust_remote_code=self.trust_remote_code, revision=self.revision, **options
        ).eval()

    def answer(self, ids: list[str], systems: list[str], users: list[str]) -> Answers:
        """See `GeneratorModule.answer`."""
        inputs = self.encode(systems, users).to(self.device)
        prompt = inputs["input_ids"].shape[1]
        end = _end_tokens(self.network, self.tokenizer)
        with torch.no_grad():
            written_BL = self.network.generate(
                **inputs,
                logits_processor=self.processors(ids, prompt),
                # A config of our own, so that the model's sampling defaults (such as top_k 50) do not apply.
                generation_config=GenerationConfig(
                    max_new_tokens=self.max_new_tokens,
                    do_sample=False,  # sampling is the last of the processors
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=end,
                    bos_token_id=self.network.generation_config.bos_token_id,
                ),
            )[:, prompt:]
        answers: Answers = {"text": [], "finish": [], "error": [], "n_tokens": []}
        for row in written_BL.tolist():
            stop = next((place for place, token in enumerate(row) if token in end), None)
            own = row if stop is None else row[:stop]
            answers["text"].append(self.tokenizer.decode(own, skip_special_tokens=True))
            answers["finish"].append("length" if stop is None else "stop")
            answers["error"].append(None)
            answers["n_tokens"].append(len(own))
        return answers

    def encode(self, systems: list[str], users: list[str]) -> Any:
        """Chats to padded ids; where the template knows no system role, the rules come before the request."""
        texts = [_chat(self.tokenizer, system, user) for system, user in zip(systems, users, strict=True)]
        return self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")

    def processors(self, ids: list[str], prompt: int) -> LogitsProcessorList:
        """Bigram block, temperature, top-k, nucleus, and the draw itself."""
        chain: list[LogitsProcessor] = []
        if self.no_repeated_bigrams != "off":
            chain.append(BigramBlock(prompt if self.no_repeated_bigrams == "generated" else 0))
        if self.temperature > 0:
            chain.append(TemperatureLogitsWarper(float(self.temperature)))
            if self.top_k:
                chain.append(TopKLogitsWarper(self.top_k))
            if self.top_p < 1:
                chain.append(TopPLogitsWarper(self.top_p))
            chain.append(DrawPerRow(ids, self.seed, self.max_new_tokens))
        return LogitsProcessorList(chain)


class BigramBlock(LogitsProcessor):  # type: ignore[misc] # transformers is untyped here
    """Bans tokens that would make a bigram come twice.

    Args:
        start: Tokens before this place do not count: the prompt's length, or 0 to ban the prompt's bigrams too.
    """

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with minus infinity at banned tokens; shape (B, V)."""
        seen_BL = input_ids[:, self.start :]
        if seen_BL.shape[1] < 2:
            return scores
        follows_BL = seen_BL[:, :-1] == seen_BL[:, -1:]
        row, place = follows_BL.nonzero(as_tuple=True)
        blocked = scores.clone()
        blocked[row, seen_BL[row, place + 1]] = -torch.inf
        return blocked


class DrawPerRow(LogitsProcessor):  # type: ignore[misc] # as above
    """Samples each row by random numbers of its own, one a token: where they fall in the row's cumulated probabilities.

    Args:
        ids: Row ids.
        seed: Seed of the run.
        steps: Most tokens that will be drawn.
    """

    def __init__(self, ids: list[str], seed: int, steps: int) -> None:
        generators = [torch.Generator().manual_seed(_number(one, seed)) for one in ids]
        self.uniform_BT = torch.stack([torch.rand(steps, generator=one, dtype=torch.float64) for one in generators])
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Zero at the token drawn, minus infinity elsewhere; shape (B, V)."""
        cumulated_BV = scores.float().softmax(dim=1).double().cumsum(dim=1)
        point_B1 = self.uniform_BT[:, self.step : self.step + 1].to(scores.device) * cumulated_BV[:, -1:]
        self.step += 1
        drawn_B1 = torch.searchsorted(cumulated_BV, point_B1, right=True)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn_B1, 0.0)


class OpenAIGenerator(GeneratorModule):
    """Any server that speaks OpenAI's protocol: vLLM, TGI, Ollama, `transformers serve`, or a hosted one.

    Refusals to serve (429), server errors, broken connections and timeouts are tried again with growing pauses; what
    still fails is a row with its reason. The key comes from the environment alone.

    Args:
        base_url: The server's address, such as `http://localhost:8000/v1`.
        api_key_variable: The environment variable that holds the key; a server without keys needs none.
        concurrency: Requests under way at once.
        requests_per_minute: At most so many are begun in a minute.
        timeout: Seconds for one request.
        retries: How often one request is tried again.
        **generator: As for `GeneratorModule`.
    """

    HAS_FILES: ClassVar[bool] = False

    def __init__(
        self,
        base_url: str,
        api_key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        requests_per_minute: float | None = None,
        timeout: float = 120.0,
        retries: int = 5,
        **generator: Any,
    ) -> None:
        super().__init__(**generator)
        if concurrency < 1 or timeout <= 0 or retries < 0:
            raise InputError(
                f"model: concurrency {concurrency}, timeout {timeout}, retries {retries}; expected 1, above 0, 0"
            )
        self.base_url = base_url
        self.api_key_variable = api_key_variable
        self.concurrency = concurrency
        self.requests_per_minute = requests_per_minute
        self.timeout = timeout
        self.retries = retries

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `GeneratorModule.identity`."""
        return {**super().identity(subcommand), "model": f"served:{self.model_name}"}

    def check(self, subcommand: str) -> None:
        """See `GeneratorModule.check`.

        Raises:
            InputError: If the openai package is not installed.
        """
        try:
            import openai  # noqa: F401
        except ModuleNotFoundError:
            raise InputError("OpenAIGenerator: openai is not installed; pip install 'labelbridge[llm]'") from None

    def answer(self, ids: list[str], systems: list[str], users: list[str]) -> Answers:
        """See `GeneratorModule.answer`."""
        rows = asyncio.run(self._all(ids, systems, users))
        return {name: [row[name] for row in rows] for name in ("text", "finish", "error", "n_tokens")}

    async def _all(self, ids: list[str], systems: list[str], users: list[str]) -> list[dict[str, Any]]:
        from openai import AsyncOpenAI

        gate = asyncio.Semaphore(self.concurrency)
        pause = 60 / self.requests_per_minute if self.requests_per_minute else 0.0
        key = os.environ.get(self.api_key_variable) or "none"
        async with AsyncOpenAI(
            base_url=self.base_url, api_key=key, timeout=self.timeout, max_retries=self.retries
        ) as client:

            async def one(place: int) -> dict[str, Any]:
                await asyncio.sleep(place * pause)
                async with gate:
                    return await self._one(client, ids[place], systems[place], users[place])

            return await asyncio.gather(*(one(place) for place in range(len(ids))))

    async def _one(self, client: Any, row: str, system: str, user: str) -> dict[str, Any]:
        from openai import OpenAIError

        messages = [{"role": "system", "content": system}] if system else []
        error = ""
        for attempt in range(1 + self.retries):
            try:
                answer = await client.chat.completions.create(
                    model=self.model_name,
                    messages=[*messages, {"role": "user", "content": user}],
                    max_tokens=self.max_new_tokens,
                    temperature=self.temperature,
                    top_p=self.top_p,
                    seed=_number(row, self.seed) % 2**31,
                )
                choice = answer.choices[0]
                text = choice.message.content or ""
                tokens = answer.usage.completion_tokens if answer.usage else len(text.split())
                return {"text": text, "finish": str(choice.finish_reason or "stop"), "error": None, "n_tokens": tokens}
            except OpenAIError as failure:  # the client has tried again already
                error = _reason(failure)
                break
            except (json.JSONDecodeError, AttributeError, IndexError, TypeError) as failure:
                error = f"malformed answer ({type(failure).__name__})"
                await asyncio.sleep(min(0.5 * 2**attempt, 8))
        return {"text": None, "finish": "error", "error": error, "n_tokens": 0}


def _chat(tokenizer: Any, system: str, user: str) -> str:
    from jinja2 import TemplateError

    chat = [{"role": "system", "content": system}] if system else []
    try:
        text: str = tokenizer.apply_chat_template(
            [*chat, {"role": "user", "content": user}], tokenize=False, add_generation_prompt=True
        )
    except TemplateError:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{system}\n\n{user}"}], tokenize=False, add_generation_prompt=True
        )
    return text


def _end_tokens(network: Any, tokenizer: Any) -> list[int]:
    own = network.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [own]
    return sorted({one for one in [*ends, tokenizer.eos_token_id] if one is not None})


def _number(row: str, seed: int) -> int:
    """A 63-bit number from a row's id and the seed."""
    return int.from_bytes(blake2b(f"{seed}:{row}".encode(), digest_size=8).digest(), "big") >> 1


def _reason(failure: Exception) -> str:
    status = getattr(failure, "status_code", None)
    return f"{type(failure).__name__}{f' {status}' if status else ''}: {' '.join(str(failure).split())[:120]}"
