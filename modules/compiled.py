"""torch.compile for a classifier's network, with few graphs.

Batches differ in rows and in length, so the graph is traced with sizes left open (`dynamic=True`), as torch recommends
for inputs of many lengths: one serves all batches of a kind, where a graph for each length would be compiled for
minutes each. Kinds are training and evaluation, and sizes of 1, which torch never leaves open. After
`torch._dynamo.config.recompile_limit` graphs (8 by default) torch runs further kinds without compiling them.

Of BERT, RoBERTa, XLM-R and their kin each layer of the encoder is compiled by itself. All are alike, so that one graph
serves them all and compiling takes a fraction of the time ("regional compilation" in torch's documentation).

The network, or each of its layers, is compiled in place (`nn.Module.compile`), so that parameters keep their names:
`torch.compile(network)` would put `_orig_mod.` before each of them in checkpoints and exports.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from typing import Any, Literal

from labelbridge.lightning_app.core.errors import InputError

from .packing import is_known

log = logging.getLogger(__name__)

Backend = Literal["inductor", "aot_eager", "eager"]


def compile_networks(networks: Sequence[Any], backend: Backend | None, name: str) -> None:
    """Have networks compiled by their next calls.

    Args:
        networks: Networks of the transformers library.
        backend: `inductor` makes kernels; the other two run the traced graph as it is, to find out what can be traced.
            With null nothing is done.
        name: The model, for the log.

    Raises:
        InputError: If there is no C++ compiler, which `inductor` requires.
    """
    if backend is None:
        return
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if backend == "inductor" and not any(map(shutil.which, compilers)):
        raise InputError(
            f"model.torch_compile is inductor, and there is no C++ compiler ({' or '.join(compilers)}), expected one; "
            "install it, name it in the environment variable CXX, or set model.torch_compile to null"
        )
    for network in networks:
        parts = network.base_model.encoder.layer if is_known(network) else [network]
        for part in parts:
            part.compile(backend=backend, dynamic=True)
    log.info("%s: compiled by %s at the first batches, which take minutes", name, backend)
