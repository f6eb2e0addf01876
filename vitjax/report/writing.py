"""Writes the page about one run, or about several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded, given_twice, listed
from vitjax.core.text import Say
from vitjax.report import one_run, several_runs
from vitjax.report.page import check_output
from vitjax.training import workdir


def report(
    workdirs: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    say: Say = print,
) -> Path:
    """Writes one HTML file about a run, or about several side by side.

    Args:
        workdirs: the folder of a run, or those of several.
        output: the file; None for ``report.html`` in the folder of a single run, and in the current
            folder for several.
        overrides: ``--config.`` arguments on the config of a single run, such as the data's new
            path.
        say: receives what was loaded and what cannot be shown.

    Returns:
        The path of the file.

    Raises:
        WorkdirError: a folder holds no run, or a file in it is damaged.
        ConfigError: no folder is given, or one twice; overrides for several runs; ``output`` is a
            folder, below a file, or a file that is not such a page. Nothing is written then.
    """
    folders = [Path(folder) for folder in listed(workdirs, "workdirs")]
    if not folders:
        raise ConfigError("workdir: at least one folder of a run is needed")
    if (twice := given_twice(folders)) is not None:
        raise ConfigError(f"workdir: {twice} is given twice")
    one = len(folders) == 1
    if overrides and not one:
        raise ConfigError(
            f"{overrides[0]}: values of the config can be set for one run; several runs are"
            " compared by their files alone"
        )
    path = (
        Path(expanded(output))
        if output is not None
        else (folders[0] if one else Path()) / workdir.REPORT
    )
    for folder in folders:
        workdir.read_config(folder)  # what is no run is named before its page
    check_output(path)
    made = one_run.page(folders[0], overrides, say) if one else several_runs.page(folders, say)
    return made.write(path)
