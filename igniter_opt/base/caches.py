"""Where what took long to make is kept for later runs."""

import os
import sys
from pathlib import Path


def environment_folder() -> Path | None:
    """Return the folder in the virtual environment; None outside of one."""
    return Path(sys.prefix) / "var" / "cache" / "igniter-opt" if sys.prefix != sys.base_prefix else None


def cache_folders() -> list[Path]:
    """Return the folders that may hold what is kept, the first that can be used first.

    That of ``NUMBA_CACHE_DIR`` alone, if it is set; else the virtual environment's, and the user's cache folder.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return [Path(given)]
    own = environment_folder()
    folders = [] if own is None else [own]
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        home = home.expanduser()
    except RuntimeError:  # a user without a home
        return folders
    return [*folders, home / "igniter-opt"] if home.is_absolute() else folders
