"""Lightning's logger for trackio, a tracker that keeps its runs in a local database."""

import io
from argparse import Namespace
from functools import cached_property
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from ..core.packages import require


class TrackioLogger(Logger):
    """Logs to trackio: `pip install trackio`, then `trackio show`.

    trackio keeps its runs below the folder that the environment variable TRACKIO_DIR names.

    Args:
        project: The project's name.
        run: The run's name; trackio makes one if there is none.
        space_id: A Space on the Hugging Face Hub to show the run in, as `me/my-space`; None keeps it local.
    """

    def __init__(self, project: str = "labelbridge", run: str | None = None, space_id: str | None = None) -> None:
        super().__init__()
        require("trackio", "trackio", "trainer.logger")
        self.project = project
        self.run = run
        self.space_id = space_id

    @cached_property
    def experiment(self) -> Any:
        """The run."""
        import trackio

        return trackio.init(
            project=self.project, name=self.run, space_id=self.space_id, embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str | None:
        """The run."""
        return self.run

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log numbers."""
        self.experiment.log({name: float(value) for name, value in metrics.items()}, step=step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Add to the run's configuration, which trackio keeps as it is at the first number."""
        self.experiment.config.update(vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Log a matplotlib figure as an image."""
        import trackio
        from PIL import Image

        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        self.experiment.log({name: trackio.Image(Image.open(picture))}, step=step)

    @rank_zero_only
    def log_markdown(self, name: str, text: str, step: int) -> None:
        """Log a text."""
        import trackio

        self.experiment.log({name: trackio.Markdown(text)}, step=step)
