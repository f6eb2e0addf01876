"""What the files of a run say, without its data and its checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitjax import config as configs
from vitjax import figures
from vitjax.core.paths import expanded
from vitjax.training import workdir
from vitjax.training.logging import read

# The splits that a run may have results of, in the order of the summary.
SPLITS = ("test", "val")


@dataclasses.dataclass(frozen=True)
class SavedFiles:
    """The files of a run.

    Attributes:
        folder: the run's folder.
        config: the config by dotted keys.
        started: how it was started, see `vitjax.training.workdir.Started`; may be empty.
        summary: the contents of ``summary.json``; empty before the end of the run.
        series: steps and values of each (metric, split), see `vitjax.figures.read_series`.
        damage: warnings of what in them could not be read.
    """

    folder: Path
    config: Mapping[str, Any]
    started: Mapping[str, Any]
    summary: Mapping[str, Any]
    series: Mapping[tuple[str, str], Any]
    damage: Sequence[str] = ()

    @classmethod
    def read(cls, folder: str | Path) -> SavedFiles:
        """Reads the files of a run.

        Raises:
            WorkdirError: the folder holds no run, or a file is damaged.
        """
        folder = Path(expanded(folder))
        damage: list[str] = []
        return cls(
            folder,
            configs.flatten(configs.to_dict(workdir.read_config(folder))),
            workdir.read_started(folder),
            workdir.read_summary(folder),
            figures.read_series(read(folder / workdir.METRICS, damage.append)),
            damage,
        )

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.absolute().name

    @property
    def results(self) -> dict[str, Mapping[str, Any]]:
        """The final results by split; empty before the end of the run."""
        found = {split: self.summary.get(split) for split in SPLITS}
        return {split: each for split, each in found.items() if isinstance(each, Mapping)}

    def number(self, key: str) -> float | None:
        """A number of the summary; None without one."""
        found = self.summary.get(key)
        return found if isinstance(found, int | float) else None

    @property
    def steps(self) -> int:
        """The last step that was reported; 0 if none was."""
        return max((int(steps[-1]) for steps, _ in self.series.values()), default=0)

    @property
    def command(self) -> str | None:
        """The command that started the run; None if it was started in Python or is not known."""
        file, overrides = self.started.get("config_file"), self.started.get("overrides")
        if not isinstance(file, str) or not isinstance(overrides, list):
            return None
        return workdir.start_command(self.folder, file, [str(each) for each in overrides])

    @property
    def written(self) -> dict[str, Any] | None:
        """The config of the config file by dotted keys; None if it is not known."""
        found = self.started.get("config")
        return configs.flatten(found) if isinstance(found, Mapping) else None
