"""Run one benchmark by its name, or all of them; results are printed and kept as JSON in `runs/benchmarks`."""

import argparse
import importlib
import json
import pkgutil
import sys
import time
import traceback
from pathlib import Path

import benchmarks
from labelbridge.lightning_app.core.artifacts import versions

NAMES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_"))


def main() -> int:
    """Each module has `run(full)`, which returns its figures; the ratio comes first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="all of them if none is named")
    parser.add_argument("--full", action="store_true", help="the whole size, where the default takes a part of it")
    options = parser.parse_args()
    lines = []
    first = time.perf_counter()
    for name in [options.name] if options.name else NAMES:
        print(f"== {name}", flush=True)
        began = time.perf_counter()
        try:
            figures = importlib.import_module(f"benchmarks.{name}").run(options.full)
        except Exception:
            if options.name:
                raise
            traceback.print_exc()  # the others are still worth their time
            lines.append(f"{name:<12} {'failed':>8}")
            continue
        lines.append(f"{name:<12} {_show(figures['ratio']):>8}" if "ratio" in figures else f"{name:<12} {'-':>8}")
        out = Path("runs/benchmarks")
        out.mkdir(parents=True, exist_ok=True)
        record = {"benchmark": name, "figures": figures, "versions": versions()}
        (out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        print(name, *(f"{key}={_show(value)}" for key, value in figures.items()), flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    if not options.name:
        print("", f"{'benchmark':<12} {'ratio':>8}", *lines, sep="\n")
        print(f"{(time.perf_counter() - first) / 60:.0f} minutes")
    return int(any(line.endswith("failed") for line in lines))


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
