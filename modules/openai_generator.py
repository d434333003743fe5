"""Text from a server that speaks OpenAI's protocol."""

import asyncio
import json
import os
from typing import Any, ClassVar

from lightning_app.errors import InputError
from modules.generator import Answers, GeneratorModule
from modules.sampling import row_number


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
                    seed=row_number(row, self.seed) % 2**31,
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


def _reason(failure: Exception) -> str:
    status = getattr(failure, "status_code", None)
    return f"{type(failure).__name__}{f' {status}' if status else ''}: {' '.join(str(failure).split())[:120]}"
