"""Text from a server that speaks OpenAI's protocol."""

import asyncio
import os
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from logging import getLogger
from typing import Annotated, Any
from urllib.parse import urlsplit

from labelbridge.lightning_app.core.errors import InputError, shorten
from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.ranges import NonNegativeInt, PositiveFloat, Range, check_ranges
from labelbridge.lightning_app.core.secrets import mask, mask_text
from labelbridge.lightning_app.protocols import Counts, PromptBatch, StepRows

from .answers import MOST_WORDS, MalformedAnswerError, row_of, whole, words_of
from .entire_answers import http_client
from .generator import Answers, GeneratorModule
from .sampling import row_number

log = getLogger(__name__)

COLUMNS = ("text", "finish", "error", "n_tokens")
# These mean that the run is set up wrongly, not that a row has failed.
WRONG_SET_UP = {
    401: "the key is refused", 402: "no credit is left", 403: "the key may not do this",
    404: "no such address or model",
}  # fmt: skip
# So many rows that fail in a row, all for one reason, end the run: while nothing has been answered or the reason holds
# for every row, and otherwise.
FEW_FAILURES, MANY_FAILURES = 8, 64
# Fields of a request on which the rows depend -> what else they may be in `extra`.
OURS: dict[str, tuple[Any, ...]] = {"model": (), "messages": (), "n": (1, None), "stream": (False, None)}
NO_KEY = "none"  # what a server without keys is sent
SECONDS_TO_END = 10.0  # a run that ends waits so long for the answers to what it has sent


class OpenAIGenerator(GeneratorModule):
    """Any server that speaks OpenAI's protocol: vLLM, TGI, Ollama, `transformers serve`, or a hosted one.

    Refusals to serve (429), server errors, broken connections and timeouts are tried again with growing pauses; what
    still fails is a row with its reason. Where row after row fails for one reason, or every row, the run stops, and the
    same command asks for the failed rows again. The key comes from the environment alone. Batches only set the order of
    requests: the server always has `concurrency` of them, and each row is handed over as soon as it is answered.

    Args:
        base_url: The server's address, such as `http://localhost:8000/v1`.
        api_key_variable: The environment variable that holds the key; a server without keys needs none.
        concurrency: Requests under way at once.
        requests_per_minute: At most so many are sent in a minute of the whole run, repeated ones included.
        timeout: Seconds for one request, from sending it to the last byte of its answer.
        retries: How often one request is tried again.
        extra: Further fields of every request, such as `{top_k: -1}` (vLLM: a true nucleus, whatever the model's own
            settings say); null leaves a field out (`{max_tokens: null, max_completion_tokens: 96}`). Not `model` and
            `messages`, several answers (`n`), or parts of them (`stream`).
        **generator: As for `GeneratorModule`.
    """

    @check_ranges("model.")
    def __init__(
        self,
        base_url: str,
        api_key_variable: str = "OPENAI_API_KEY",
        concurrency: Annotated[int, Range(least=1, most=10_000)] = 16,
        requests_per_minute: PositiveFloat | None = None,
        timeout: PositiveFloat = 120.0,
        retries: NonNegativeInt = 5,
        extra: dict[str, Any] | None = None,
        **generator: Any,
    ) -> None:
        super().__init__(**generator)
        if not _is_address(base_url):
            raise InputError(
                f"model: base_url {shorten(base_url)}, expected an address such as http://localhost:8000/v1"
            )
        for field, allowed in OURS.items():
            if extra and field in extra and extra[field] not in allowed:
                raise InputError(
                    f"model.extra: {field} is {shorten(extra[field])}, expected none: a row is one answer of "
                    "--model.model to its own prompt, in one piece; leave it out"
                )
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
        self._failed_rows: dict[int, dict[str, Any]] = {}  # handed over at the end: a run that goes on asks again
        self._same_failures: tuple[str, int] = ("", 0)  # the last reason, and how often it came in a row
        self._answered = 0

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `GeneratorModule.identity`."""
        extra = {"extra": mask(self.extra)} if self.extra else {}
        return {**super().identity(subcommand), **extra, "model": f"served:{self.model_name}"}

    def check(self, subcommand: str) -> None:
        """See `GeneratorModule.check`.

        Raises:
            InputError: If the openai package is not installed.
        """
        require("openai", "llm", "OpenAIGenerator")

    def answer(self, ids: list[str], systems: list[str], users: list[str], completions: list[str | None]) -> Answers:
        """See `GeneratorModule.answer`."""
        futures = [self._send(*one) for one in zip(ids, systems, users, strict=True)]
        rows = [future.result() for future in futures]
        return {name: [row[name] for row in rows] for name in COLUMNS}

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> StepRows:
        """Send a batch's requests, and hand over what has been answered, of whatever batch.

        Returns as soon as the server has room for more; after the last batch, when all is answered.
        """
        todo = [place for place, finished in enumerate(batch["finished"]) if not finished and batch["real"][place]]
        for place in todo:
            future = self._send(batch["id"][place], batch["system"][place], batch["user"][place])
            self._under_way[future] = (int(batch["row"][place]), batch["prompt_label"][place])
        is_last = batch_idx + 1 == self.trainer.num_predict_batches[0]
        labels, tokens = self._collect(room=0 if is_last else self.concurrency)
        if is_last:
            self._hand_over_failed()
        # Throughput counts what has been answered now, and what was on the disk before.
        named = tuple(label for label in labels if label is not None)
        counts = Counts(len(labels) + batch["n_rows"] - len(todo), tokens, tokens, named)
        return {"rows": [], "columns": {}, "counts": counts}

    def on_predict_end(self) -> None:
        """Say how many rows have failed, and close the connections."""
        if self._failed:
            worst, times = self._failed.most_common(1)[0]
            log.warning(
                "%d of %d rows failed, most often (%d) with: %s", self._failed.total(),
                self._answered + self._failed.total(), times, worst,
            )  # fmt: skip
        self._close()

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _keep_what_is_being_answered(self) -> None:
        """Send nothing more, and hand over the answers to what has been sent: they are paid for."""
        if self._server is not None:
            self._server.stop_sending()
        done, _ = wait(self._under_way, timeout=SECONDS_TO_END)
        answers = {self._under_way[future][0]: future.result() for future in done if not future.cancelled()}
        self._hand_over({row: answer for row, answer in answers.items() if answer["error"] is None})
        self._under_way.clear()
        self._close()

    def _collect(self, room: int) -> tuple[list[str | None], int]:
        """Hand rows over as they are answered, until no more than `room` are under way; their labels, their tokens."""
        labels: list[str | None] = []
        tokens = 0
        while len(self._under_way) > room or any(future.done() for future in self._under_way):
            done, _ = wait(self._under_way, timeout=1, return_when=FIRST_COMPLETED)
            taken = [(*self._under_way.pop(future), future.result()) for future in done]
            answered = {row: answer for row, _, answer in taken if answer["error"] is None}
            self._hand_over(answered)
            labels += [label for _, label, _ in taken]
            tokens += sum(answer["n_tokens"] for answer in answered.values())
            try:
                for row, _, answer in taken:
                    self._note(row, answer)
            except InputError:
                self._keep_what_is_being_answered()
                raise
        return labels, tokens

    def _hand_over(self, answers: dict[int, dict[str, Any]]) -> None:
        columns = {name: [answer[name] for answer in answers.values()] for name in COLUMNS}
        self.hand_over(list(answers), columns)

    def _hand_over_failed(self) -> None:
        """Write the rows that failed down, when all others have been answered.

        Raises:
            InputError: If there are no others.
        """
        if self._failed_rows and not self._answered and not self._answered_before:
            raise InputError(self._stopped(f"all {len(self._failed_rows)} rows failed, most often with", *self._worst))
        self._hand_over(self._failed_rows)

    @property
    def _answered_before(self) -> int:
        """Rows that an earlier start of this run has on the disk."""
        finished = self.trainer.datamodule.finished_rows  # type: ignore[attr-defined] # the CLI's
        return 0 if finished is None else len(finished)

    @property
    def _worst(self) -> tuple[str, int | None]:
        worst = self._failed.most_common(1)[0][0]
        return worst, next((one["status"] for one in self._failed_rows.values() if one["error"] == worst), None)

    def _stopped(self, what: str, error: str, status: int | None) -> str:
        hint = f"{WRONG_SET_UP[status]}; " if status in WRONG_SET_UP else ""
        return (
            f"{mask_text(self.base_url)}: {what}: {error}; {hint}check {self.api_key_variable}, --model.base_url and "
            f"--model.model {self.model_name}; the same command resumes, and asks for the failed rows again"
        )

    def _note(self, row: int, answer: dict[str, Any]) -> None:
        """Count a row, and end the run where it is no use to go on.

        Raises:
            InputError: If the server says that the run is set up wrongly, or row after row fails for one reason.
        """
        if answer["error"] is None:
            self._answered += 1
            self._same_failures = ("", 0)
            return
        status, kind = answer["status"], answer["kind"]
        self._failed[answer["error"]] += 1
        self._failed_rows[row] = answer
        before, count = self._same_failures
        self._same_failures = (kind, count + 1 if kind == before else 1)
        nothing_yet = not self._answered and not self._answered_before
        if nothing_yet and status in WRONG_SET_UP:
            raise InputError(self._stopped("the first row failed with", answer["error"], status))
        holds_for_all = status in WRONG_SET_UP or kind == "APIConnectionError"
        if self._same_failures[1] >= (FEW_FAILURES if nothing_yet or holds_for_all else MANY_FAILURES):
            what = f"{self._same_failures[1]} rows in a row failed, the last with"
            raise InputError(self._stopped(what, answer["error"], status))

    def _send(self, row: str, system: str, user: str) -> "Future[dict[str, Any]]":
        if self._server is None:
            key = os.environ.get(self.api_key_variable) or NO_KEY
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
        from openai import AsyncOpenAI

        self._key = key
        self._retries = retries
        self._pause = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._is_ending = False
        self._gate = asyncio.Semaphore(concurrency)
        self._loop = asyncio.new_event_loop()
        http = http_client(timeout, self._keep_to_the_rate)
        self._client = AsyncOpenAI(
            base_url=base_url, api_key=key, timeout=timeout, max_retries=retries, http_client=http
        )
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def send(self, **request: Any) -> "Future[dict[str, Any]]":
        """Send a request when there is room; its answer comes as a row."""
        return asyncio.run_coroutine_threadsafe(self._one(request), self._loop)

    def stop_sending(self) -> None:
        """Drop the requests that wait for room."""
        self._is_ending = True

    def close(self) -> None:
        """Drop what is under way, close the connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _keep_to_the_rate(self) -> None:
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._pause
        await asyncio.sleep(turn - now)

    async def _one(self, request: dict[str, Any]) -> dict[str, Any]:
        from openai import OpenAIError

        async with self._gate:
            if self._is_ending:
                raise asyncio.CancelledError
            for attempt in range(1 + self._retries):
                try:
                    return row_of(await self._client.chat.completions.create(**request))
                except OpenAIError as failure:  # the client has tried again already
                    status = getattr(failure, "status_code", None)
                    return _failure(self._reason(failure), type(failure).__name__, status)
                except Exception as failure:  # noqa: BLE001 - whatever a body makes the client stumble over
                    is_told = isinstance(failure, MalformedAnswerError)
                    said = f": {failure}" if is_told else f" ({type(failure).__name__})"
                    error = self._without_key(f"malformed answer{said}")
                    await asyncio.sleep(min(0.5 * 2**attempt, 8))
            return _failure(error, "malformed answer")

    def _without_key(self, text: str) -> str:
        return text if self._key == NO_KEY else text.replace(self._key, "***")

    def _reason(self, failure: Exception) -> str:
        from openai import APIError

        status = getattr(failure, "status_code", None)
        cause = f" ({failure.__cause__})" if str(failure.__cause__ or "") and status is None else ""
        words = words_of(failure.body) if isinstance(failure, APIError) else ""
        if (
            words and str(failure) == f"Error code: {status}"
        ):  # the client tells the words of some kinds of errors alone
            cause = f" - {words}"
        said = whole(" ".join(self._without_key(f"{failure}{cause}").split()))[:MOST_WORDS]
        return f"{type(failure).__name__}{f' {status}' if status else ''}: {said}"


def _failure(error: str, kind: str, status: int | None = None) -> dict[str, Any]:
    return {"text": None, "finish": "error", "error": error, "n_tokens": 0, "kind": kind, "status": status}


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is none
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
