"""What makes two Trainer runs the same: every setting, unless it is listed here as harmless.

A setting that is forgotten here makes a run refuse to go on where it could have; one that was forgotten in a list of
what counts would have a finished run pass for another. Inputs count by their content, which DataModule and module say
in their own `identity`.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core import fingerprint

# Setting -> why another value of it gives the same rows or weights.
TRAINER_HARMLESS: Mapping[str, str] = {
    "accelerator": "where a run computes",
    "strategy": "how it is spread over devices",
    "devices": "rows_per_step counts",
    "num_nodes": "rows_per_step counts",
    "accumulate_grad_batches": "rows_per_step counts",
    "precision": "recorded as the Trainer resolves it",
    "callbacks": "recorded one by one, see CALLBACKS_HARMLESS",
    "logger": "what is shown",
    "log_every_n_steps": "what is shown",
    "enable_progress_bar": "what is shown",
    "enable_model_summary": "what is shown",
    "enable_autolog_hparams": "what is shown",
    "enable_checkpointing": "checkpoints exist to resume",
    "num_sanity_val_steps": "draws no random numbers of the run",
    "profiler": "measures",
    "detect_anomaly": "looks on",
    "benchmark": "last bits",
    "deterministic": "last bits",
    "inference_mode": "no gradients either way",
    "use_distributed_sampler": "the loaders bring their rank's rows",
    "default_root_dir": "where logs are written",
    "model_registry": "where checkpoints are uploaded",
}
# These decide how long a fit takes; predict and test write every row, however often they are stopped.
OF_FIT_ALONE = (
    "fast_dev_run", "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches", "val_check_interval",
    "check_val_every_n_epoch", "gradient_clip_val", "gradient_clip_algorithm", "sync_batchnorm",
    "reload_dataloaders_every_n_epochs", "barebones",
)  # fmt: skip
# Callbacks of Lightning that look on; one of your own says so of itself by a class attribute `LOOKS_ON = True`.
CALLBACKS_HARMLESS = (
    "DeviceStatsMonitor", "LearningRateMonitor", "ModelSummary", "ProgressBar", "RichModelSummary", "RichProgressBar",
    "ThroughputMonitor", "TQDMProgressBar",
)  # fmt: skip
# Arguments of the callbacks that every run has.
FORCED_HARMLESS: Mapping[str, tuple[str, ...]] = {
    "cartography": ("out", "rows", "score", "figure"),
    "export": ("out",),
    "resume": ("out", "every_minutes", "every_n_steps"),
    "rows": ("out", "flush_seconds"),
    "throughput": ("report_seconds",),
    "boards": ("figures", "samples"),
}
MODEL_HARMLESS: Mapping[str, str] = {
    "model": "recorded by its fingerprint",
    "revision": "recorded by its fingerprint",
    "tokenizer": "recorded by its fingerprint",
    "lexicon": "recorded by its content",
    "source_code": "recorded as it is resolved",
    "target_code": "recorded as it is resolved",
    "prefix": "recorded as it is resolved",
    "frozen_cache": "recorded as whether there is one",
    "extra": "recorded by the module, without keys",
    "trust_remote_code": "a permission",
    "gradient_checkpointing": "the same numbers in less memory",
    "torch_compile": "floats to 1e-5",
    "base_url": "where the served model is; its name counts",
    "api_key_variable": "a permission",
    "concurrency": "rows do not depend on each other",
    "requests_per_minute": "rows do not depend on each other",
    "timeout": "how patient a run is",
    "retries": "how patient a run is",
    "inter_threads": "speed",
    "intra_threads": "speed",
}
DATA_HARMLESS: Mapping[str, str] = {
    **dict.fromkeys(
        ("train", "dev", "targets", "tests", "pool", "selection", "rows", "prompts", "source", "count"),
        "recorded by content",
    ),
    **dict.fromkeys(
        ("model", "revision", "trust_remote_code", "source_code", "target_code", "prefix", "max_new_tokens"),
        "linked to the module's",
    ),
    "batch_size": "rows_per_step counts",
    "tokens_per_batch": "floats to 1e-5",
    "num_workers": "speed",
    "allow_empty": "a permission",
}


def trainer_settings(chosen: Mapping[str, Any], subcommand: str) -> dict[str, Any]:
    """What of the Trainer's settings counts, its callbacks among them.

    Args:
        chosen: The Trainer's part of the configuration.
        subcommand: `fit`, `test` or `predict`.
    """
    harmless = {*TRAINER_HARMLESS, *(OF_FIT_ALONE if subcommand != "fit" else ())}
    settings = _plain(chosen)
    callbacks = settings.get("callbacks") or []
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    return {
        **{name: value for name, value in settings.items() if name not in harmless},
        "callbacks": [one for one in listed if not _looks_on(one)],
    }


def class_settings(
    chosen: Mapping[str, Any] | None, harmless: Mapping[str, str], also_harmless: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The arguments of a module or a DataModule that count.

    Args:
        chosen: `class_path` and `init_args`, as configured.
        harmless: Arguments that do not count, with why.
        also_harmless: Further ones, such as what only training makes use of.
    """
    arguments = _plain((chosen or {}).get("init_args") or {})
    return {name: value for name, value in arguments.items() if name not in harmless and name not in also_harmless}


def forced_callback_settings(chosen: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments of a callback that every run has, as far as they count."""
    return {key: value for key, value in _plain(chosen).items() if key not in FORCED_HARMLESS.get(name, ())}


def checkpoint(path: str | None) -> str | None:
    """What identifies a Lightning checkpoint given by hand: its content."""
    return path if path is None or not Path(path).is_file() else fingerprint.of_files([Path(path)])


def _looks_on(callback: Any) -> bool:
    """Whether a configured callback changes nothing: one of Lightning's own, or a class with `LOOKS_ON = True`."""
    path = str(callback.get("class_path", "")) if isinstance(callback, dict) else ""
    if path.rpartition(".")[2] in CALLBACKS_HARMLESS and path.startswith(("lightning.", "pytorch_lightning.")):
        return True
    module, _, name = path.rpartition(".")
    return bool(module) and getattr(getattr(import_module(module), name, None), "LOOKS_ON", False) is True


def _plain(value: Any) -> dict[str, Any]:
    """As JSON values; jsonargparse's namespaces are maps here."""
    as_dict = value.as_dict() if hasattr(value, "as_dict") else dict(value)
    plain: dict[str, Any] = json.loads(json.dumps(as_dict, default=_as_json))
    return plain


def _as_json(value: Any) -> Any:
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return vars(value) if hasattr(value, "__dataclass_fields__") else str(value)
