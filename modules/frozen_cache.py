"""The outputs of frozen layers, computed once for each row and kept in a file that several runs may share.

Layers that are not trained give the same outputs for a row in every epoch, at every dev check and in every run on the
same encoder. A fit whose lower nine of twelve layers are frozen then computes three. Frozen layers run without dropout
here, so that a row has one output; without a cache they have the dropout of the model.

Each row goes through the frozen layers by itself. So its output, to the last bit, does not depend on the rows of its
batch, on whether it was in the file before, or on where a run was killed and resumed.
"""

# B = rows of a micro-batch, L = its longest row in tokens, D = width

import hashlib
import logging
import os
import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from labelbridge.lightning_app.core.errors import InputError

from .heads import layer_stack

log = logging.getLogger(__name__)

_PATIENCE = 600.0  # seconds to wait for another run that writes to the file
# Settings of a model that its frozen layers do not see.
_SAY_NOTHING = (
    "_name_or_path", "architectures", "dtype", "id2label", "label2id", "num_hidden_layers", "problem_type",
    "transformers_version",
)  # fmt: skip


class FrozenCache:
    """Puts stored outputs of a network's lowest layers in the place of their computation.

    Args:
        file: An SQLite file, on a local disk; made if it is not there. Runs on other encoders, with other layers or in
            another precision may use the same file.
        network: A network of the transformers library.
        layers: How many of its lowest layers are frozen, at least 1.
        name: The model's name, for errors.

    Raises:
        InputError: If the file cannot be used, or the network has no trained layer above the frozen ones.
    """

    def __init__(self, file: Path, network: Any, layers: int, name: str) -> None:
        self._file = file
        self._network = network
        path, stack = layer_stack(network, name)
        if not 0 < layers < len(stack):
            raise InputError(
                f"model.frozen_cache {file}: model.frozen_layers is {layers}, expected 1 to {len(stack) - 1} (of the "
                f"{len(stack)} layers of {name}); set it, or model.frozen_cache to null"
            )
        owner, _, self._attribute = path.rpartition(".")
        self._owner = network.base_model.get_submodule(owner)
        self._upper = nn.ModuleList(stack[layers:])
        self._frozen = _digest(network)
        self._connection: sqlite3.Connection | None = None
        self._process = -1
        self._connect()

    @contextmanager
    def outputs_given(self, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """Within this context the network computes its upper layers alone, for these inputs.

        Args:
            inputs: What the network's `forward` takes; `input_ids` and `attention_mask` of shape (B, L), padded at
                the end of each row.

        Raises:
            InputError: If rows are padded at their start, or the file cannot be read or written.
        """
        states_BLD = self._states(inputs)

        def put_in(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if arguments:
                return (states_BLD, *arguments[1:]), named
            return arguments, {**named, "hidden_states": states_BLD}

        handle = self._upper[0].register_forward_pre_hook(put_in, with_kwargs=True)
        try:
            with self._stack_of(self._upper):
                yield
        finally:
            handle.remove()

    @contextmanager
    def _stack_of(self, layers: nn.ModuleList) -> Iterator[None]:
        whole = self._owner._modules[self._attribute]
        self._owner._modules[self._attribute] = layers
        try:
            yield
        finally:
            self._owner._modules[self._attribute] = whole

    def _states(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The inputs of the first trained layer, zero at the padding; shape (B, L, D)."""
        mask_BL = inputs["attention_mask"].cpu()
        lengths = mask_BL.sum(dim=1).tolist()
        if any(not mask_BL[row, :length].all() for row, length in enumerate(lengths)):
            raise InputError(
                "model.frozen_cache: the tokenizer pads at the start of a row, expected at its end; set "
                "model.frozen_cache to null"
            )
        device = inputs["input_ids"].device
        computed_in = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        keys = self._keys(inputs, lengths, computed_in)
        known = self._read(keys)
        missing = [row for row, key in enumerate(keys) if key not in known]
        # Runs that start together meet the same rows: in an order of its own, each finds most of what others compute.
        random.Random(os.getpid()).shuffle(missing)  # noqa: S311 - any order gives the same outputs
        for row in missing:
            key = keys[row]
            known |= self._read([key])
            if key not in known:
                alone = {name: value[row : row + 1, : lengths[row]] for name, value in inputs.items()}
                known[key] = self._compute(alone)
                self._write({key: known[key]})
        rows = [known[key] for key in keys]
        states_BLD = rows[0].new_zeros((len(rows), mask_BL.shape[1], rows[0].shape[1]))
        for state_BLD, state_LD in zip(states_BLD, rows, strict=True):
            state_BLD[: len(state_LD)] = state_LD
        return states_BLD.to(device)

    def _keys(
        self, inputs: Mapping[str, Tensor], lengths: Sequence[int], computed_in: torch.dtype | None
    ) -> list[bytes]:
        """What tells a row from every other: the frozen weights, the precision, and all that the network is given."""
        device = inputs["input_ids"].device.type
        # The Trainer may have changed the precision of the weights since they were digested.
        facts = f"{self._frozen} {self._network.dtype} {device} {computed_in} {torch.__version__}".encode()
        digests = [hashlib.blake2b(facts, digest_size=20) for _ in lengths]
        for name in sorted(set(inputs) - {"attention_mask"}):
            for digest, row, length in zip(digests, inputs[name].cpu(), lengths, strict=True):
                digest.update(f" {name} {length} ".encode() + row[:length].contiguous().numpy().tobytes())
        return [digest.digest() for digest in digests]

    def _compute(self, alone: Mapping[str, Tensor]) -> Tensor:
        """The output of the frozen layers for one row, without dropout, on the CPU; shape (L, D)."""
        modes = [(module, module.training) for module in self._network.modules()]
        self._network.eval()

        def take(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> NoReturn:
            raise _Reached(arguments[0] if arguments else named["hidden_states"])

        handle = self._upper[0].register_forward_pre_hook(take, with_kwargs=True)
        try:
            with torch.no_grad():
                self._network.base_model(**alone)
        except _Reached as reached:
            return reached.states_BLD[0].cpu()
        finally:
            handle.remove()
            for module, mode in modes:
                module.training = mode
        raise AssertionError("the network did not reach its trained layers")

    # The file

    def _connect(self) -> sqlite3.Connection:
        """This process's connection; one made before a fork is left to its parent."""
        if self._connection is None or self._process != os.getpid():
            with self._explained():
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(self._file, timeout=_PATIENCE, isolation_level=None)
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=NORMAL")
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS outputs (key BLOB PRIMARY KEY, dtype TEXT, width INTEGER, bytes BLOB)"
                )
            self._process = os.getpid()
        return self._connection

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        known: dict[bytes, Tensor] = {}
        with self._explained():
            connection = self._connect()
            for key in set(keys):
                found = connection.execute("SELECT dtype, width, bytes FROM outputs WHERE key = ?", (key,)).fetchone()
                if found is not None:
                    dtype, width, data = found
                    known[key] = torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype)).view(-1, width)
        return known

    def _write(self, new: Mapping[bytes, Tensor]) -> None:
        if not new:
            return
        rows = [
            (key, str(state_LD.dtype).removeprefix("torch."), state_LD.shape[1], _bytes(state_LD))
            for key, state_LD in new.items()
        ]
        with self._explained():
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT OR IGNORE INTO outputs VALUES (?, ?, ?, ?)", rows)
                connection.execute("COMMIT")
            except sqlite3.Error:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"model.frozen_cache {self._file}: {error}, expected a file that this program wrote, on a local "
                "disk with room; remove it, for it holds only what can be computed anew, or name another"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """A copy, such as that of averaged weights, has a connection of its own."""
        return {**self.__dict__, "_connection": None}


class _Reached(Exception):  # noqa: N818 - it ends a computation early, and is no error
    """Carries the inputs of the first trained layer out of the network."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states_BLD = states


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _digest(network: Any) -> str:
    """A digest of everything that the frozen layers' output depends on beside the row: weights and configuration."""
    digest = hashlib.blake2b(digest_size=20)
    settings = {name: value for name, value in network.config.to_dict().items() if "dropout" not in name}
    for name in _SAY_NOTHING:
        settings.pop(name, None)
    digest.update(repr(sorted(settings.items(), key=lambda item: item[0])).encode())
    for name, tensor in network.base_model.state_dict(keep_vars=True).items():
        if not tensor.requires_grad:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(_bytes(tensor.detach().cpu()))
    return digest.hexdigest()
