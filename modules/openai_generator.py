"""Text from a server that speaks OpenAI's protocol."""

import asyncio
import os
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from logging import getLogger
from typing import Any, ClassVar

from labelbridge.lightning_app.core.errors import InputError

from .generator import Answers, GeneratorModule
from .sampling import row_number

log = getLogger(__name__)

COLUMNS = ("text", "finish", "error", "n_tokens")
# Before any row has an answer, these mean that the run is set up wrongly, not that a row has failed.
WRONG_SET_UP = {401: "the key is refused", 403: "the key may not do this", 404: "no such address or model"}


class OpenAIGenerator(GeneratorModule):
    """Any server that speaks OpenAI's protocol: vLLM, TGI, Ollama, `transformers serve`, or a hosted one.

    Refusals to serve (429), server errors, broken connections and timeouts are tried again with growing pauses; what
    still fails is a row with its reason. The key comes from the environment alone. Batches only set the order of
    requests: the server always has `concurrency` of them, and each row is handed over as soon as it is answered.

    Args:
        base_url: The server's address, such as `http://localhost:8000/v1`.
        api_key_variable: The environment variable that holds the key; a server without keys needs none.
        concurrency: Requests under way at once.
        requests_per_minute: At most so many are sent in a minute of the whole run, repeated ones included.
        timeout: Seconds for one request.
        retries: How often one request is tried again.
        extra: Further fields of every request, such as `{top_k: -1}` (vLLM: a true nucleus, whatever the model's own
            settings say); null leaves a field out (`{max_tokens: null, max_completion_tokens: 96}`).
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
        extra: dict[str, Any] | None = None,
        **generator: Any,
    ) -> None:
        super().__init__(**generator)
        rate = 1 if requests_per_minute is None else requests_per_minute
        if concurrency < 1 or timeout <= 0 or retries < 0 or rate <= 0:
            raise InputError(
                f"model: concurrency {concurrency}, timeout {timeout}, retries {retries}, requests_per_minute "
                f"{requests_per_minute}; expected at least 1, above 0, at least 0, above 0 or null"
            )
        if not base_url.startswith(("http://", "https://")):
            raise InputError(f"model: base_url '{base_url}', expected an address such as http://localhost:8000/v1")
        self.base_url = base_url
        self.api_key_variable = api_key_variable
        self.concurrency = concurrency
        self.requests_per_minute = requests_per_minute
        self.timeout = timeout
        self.retries = retries
        self.extra = extra or {}
        self._server: _Server | None = None
        self._under_way: dict[Future[dict[str, Any]], tuple[int, str | None]] = {}
        self._failed: Counter[str] = Counter()
        self._answered = 0

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `GeneratorModule.identity`."""
        extra = {"extra": self.extra} if self.extra else {}
        return {**super().identity(subcommand), **extra, "model": f"served:{self.model_name}"}

    def check(self, subcommand: str) -> None:
        """See `GeneratorModule.check`.

        Raises:
            InputError: If the openai package is not installed.
        """
        try:
            import openai  # noqa: F401
        except ModuleNotFoundError:
            raise InputError("OpenAIGenerator: openai is not installed; pip install 'labelbridge[llm]'") from None

    def answer(self, ids: list[str], systems: list[str], users: list[str], completions: list[str | None]) -> Answers:
        """See `GeneratorModule.answer`."""
        futures = [self._send(*one) for one in zip(ids, systems, users, strict=True)]
        rows = [future.result() for future in futures]
        return {name: [row[name] for row in rows] for name in COLUMNS}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Answers:
        """Send a batch's requests, and hand over what has been answered, of whatever batch.

        Returns as soon as the server has room for more; after the last batch, when all is answered.
        """
        todo = [place for place, finished in enumerate(batch["finished"]) if not finished and batch["real"][place]]
        for place in todo:
            future = self._send(batch["id"][place], batch["system"][place], batch["user"][place])
            self._under_way[future] = (int(batch["row"][place]), batch["prompt_label"][place])
        is_last = batch_idx + 1 == self.trainer.num_predict_batches[0]
        labels, tokens = self._collect(room=0 if is_last else self.concurrency)
        # Throughput counts what has been answered now, and what was on the disk before.
        batch["n_rows"] = len(labels) + batch["n_rows"] - len(todo)
        batch["n_tokens"] = batch["n_cells"] = tokens
        batch["prompt_label"] = labels
        return {}

    def on_predict_end(self) -> None:
        """Say how many rows have failed, and close the connections."""
        if self._failed:
            worst, times = self._failed.most_common(1)[0]
            log.warning(
                "%d of %d rows failed, most often (%d) with: %s", self._failed.total(),
                self._answered + self._failed.total(), times, worst,
            )  # fmt: skip
        if self._server is not None:
            self._server.close()
            self._server = None

    def _collect(self, room: int) -> tuple[list[str | None], int]:
        """Hand rows over as they are answered, until no more than `room` are under way; their labels, their tokens."""
        labels: list[str | None] = []
        tokens = 0
        while len(self._under_way) > room or any(future.done() for future in self._under_way):
            done, _ = wait(self._under_way, timeout=1, return_when=FIRST_COMPLETED)
            taken = [(*self._under_way.pop(future), self._checked(future.result())) for future in done]
            answers = [answer for _, _, answer in taken]
            labels += [label for _, label, _ in taken]
            tokens += sum(answer["n_tokens"] for answer in answers)
            columns = {name: [answer[name] for answer in answers] for name in COLUMNS}
            self.hand_over([row for row, _, _ in taken], columns)
        return labels, tokens

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer without its status.

        Raises:
            InputError: If nothing has been answered yet, and the server says that the run is set up wrongly.
        """
        status = answer.pop("status", None)
        if not self._answered and status in WRONG_SET_UP:
            raise InputError(
                f"{self.base_url}: {WRONG_SET_UP[status]} ({answer['error']}); check {self.api_key_variable}, "
                f"--model.base_url and --model.model {self.model_name}; the same command resumes"
            )
        if answer["error"] is None:
            self._answered += 1
        else:
            self._failed[answer["error"]] += 1
        return answer

    def _send(self, row: str, system: str, user: str) -> "Future[dict[str, Any]]":
        if self._server is None:
            key = os.environ.get(self.api_key_variable) or "none"
            self._server = _Server(
                self.base_url, key, self.concurrency, self.requests_per_minute, self.timeout, self.retries
            )
        messages = [{"role": "system", "content": system}] if system else []
        fields = {
            "max_tokens": self.max_new_tokens, "temperature": self.temperature, "top_p": self.top_p,
            "seed": row_number(row, self.seed) % 2**31, **self.extra,
        }  # fmt: skip
        return self._server.send(
            model=self.model_name,
            messages=[*messages, {"role": "user", "content": user}],
            extra_body={name: value for name, value in fields.items() if value is not None},
        )


class _Server:
    """Requests to one server, on an event loop in a thread of its own."""

    def __init__(
        self, base_url: str, key: str, concurrency: int, per_minute: float | None, timeout: float, retries: int
    ) -> None:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        self._key = key
        self._retries = retries
        self._pause = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._gate = asyncio.Semaphore(concurrency)
        self._loop = asyncio.new_event_loop()
        # The hook sees every request that goes out, also those that the client sends again.
        http = DefaultAsyncHttpxClient(event_hooks={"request": [self._keep_to_the_rate]})
        self._client = AsyncOpenAI(
            base_url=base_url, api_key=key, timeout=timeout, max_retries=retries, http_client=http
        )
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def send(self, **request: Any) -> "Future[dict[str, Any]]":
        """Send a request when there is room; its answer comes as a row."""
        return asyncio.run_coroutine_threadsafe(self._one(request), self._loop)

    def close(self) -> None:
        """Close the connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _keep_to_the_rate(self, _: Any) -> None:
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._pause
        await asyncio.sleep(turn - now)

    async def _one(self, request: dict[str, Any]) -> dict[str, Any]:
        from openai import OpenAIError

        async with self._gate:
            for attempt in range(1 + self._retries):
                try:
                    return _row(await self._client.chat.completions.create(**request))
                except OpenAIError as failure:  # the client has tried again already
                    return {**_failure(self._reason(failure)), "status": getattr(failure, "status_code", None)}
                except (ValueError, AttributeError, IndexError, TypeError) as failure:
                    error = f"malformed answer ({type(failure).__name__})"
                    await asyncio.sleep(min(0.5 * 2**attempt, 8))
            return _failure(error)

    def _reason(self, failure: Exception) -> str:
        status = getattr(failure, "status_code", None)
        said = " ".join(str(failure).replace(self._key, "***").split())[:160]
        return f"{type(failure).__name__}{f' {status}' if status else ''}: {said}"


def _row(answer: Any) -> dict[str, Any]:
    choice = answer.choices[0]
    text = choice.message.content or ""
    tokens = answer.usage.completion_tokens if answer.usage else None
    return {
        "text": text,
        "finish": str(choice.finish_reason or "stop"),
        "error": None,
        "n_tokens": len(text.split()) if tokens is None else int(tokens),
    }


def _failure(error: str) -> dict[str, Any]:
    return {"text": None, "finish": "error", "error": error, "n_tokens": 0}
