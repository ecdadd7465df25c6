"""Checks of a command's output paths, made before long work (`base.kinds`)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists
from igniter_opt.base.kinds import DEMAND, FEED, HISTORY, PLOT, Kind, check_output

# Endings that promise a format.
_ENDINGS = {".json", ".csv", ".yaml", ".yml", ".lp", ".mps", ".html", ".png", ".svg", ".pdf", ".xlsx", ".parquet"}


def _check_ending(path: Path, kind: Kind) -> None:
    if kind.endings and path.suffix.lower() in _ENDINGS.difference(kind.endings):
        raise InputError(
            f"{path}: {kind.name} is written as {kind.endings[0]}, not {path.suffix}; choose another name{kind.instead}"
        )


def check_apart(
    outputs: Iterable[tuple[Path | None, str]], inputs: Sequence[str | Path], what_is_read: str = "the instance"
) -> None:
    """Raise InputError if an output would overwrite an input or another output.

    Parameters
    ----------
    outputs
        Path, or None if it is not asked for, and name of the option.
    inputs
        What is read; names that are no files do not matter.
    what_is_read
        What the message calls an input.
    """
    taken = {Path(name).resolve(): what_is_read for name in inputs if exists(Path(name))}
    for path, option in outputs:
        if path is not None:
            if path.resolve() in taken:
                raise InputError(f"{path}: {option} would overwrite {taken[path.resolve()]}; choose another path")
            taken[path.resolve()] = option


def check_outputs(
    output: Path | None,
    kind: Kind | None,
    plot: Path | None,
    inputs: Sequence[str | Path],
    what_is_read: str = "the instance",
    *,
    history: Path | None = None,
    feed: Path | None = None,
    log: Path | None = None,
    demand: Path | None = None,
) -> None:
    """Find out about outputs that cannot be written, or that overwrite something, before the work, not after it.

    The log of readings (``--resume``) may not be there yet, and must be another file than all others.
    """
    written = [(log, "the log"), (output, "--output"), (plot, "--plot"), (history, "--history"), (feed, "--feed")]
    written.append((demand, "--demand"))
    check_apart(written, inputs, what_is_read)
    for path, of in ((output, kind), (history, HISTORY), (demand, DEMAND)):
        if path is not None and of is not None:
            _check_ending(path, of)
            check_output(path, of)
    # It is appended to, and may be a pipe.
    if feed is not None and feed.is_file():
        check_output(feed, FEED)
    if plot is not None:
        from igniter_opt.report.plots import check_plot_path

        check_plot_path(plot)
        check_output(plot, PLOT)
