"""Who else could change what is at a path: what this program keeps for itself must be its user's alone."""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from igniter_opt.base.errors import InputError

# As many as Linux follows.
_MOST_LINKS = 40


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """Yield every folder and link on the way to a path, and what is at its end; up to the first that does not exist.

    With each goes whether it is the end.
    """
    ahead = list(reversed(path.absolute().parts))
    at = Path(ahead.pop())
    yield at, at.lstat(), not ahead
    links = 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            at = at.parent  # never a link itself
            yield at, at.lstat(), not ahead
            continue
        try:
            found = (at / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        is_link = stat.S_ISLNK(found.st_mode)
        yield at / name, found, not ahead and not is_link
        if not is_link:
            at /= name
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = (at / name).readlink()
        at = Path(target.root) if target.root else at
        ahead += reversed(target.parts[1:] if target.root else target.parts)


def check_private(path: Path, mend: str, trusted: Collection[int] = ()) -> None:
    """Raise InputError if somebody else could change a file or folder, or put another one in its place.

    It and every folder and link on the way must belong to the user, root or somebody `trusted` (user ids), and others
    must not be able to write there; folders on the way may be like /tmp, where nobody can move what is another's. What
    does not exist yet is as safe as the folder that it comes to.

    Parameters
    ----------
    mend
        What the user can do instead, for the message.
    """
    ours = {0, os.geteuid(), *trusted}
    try:
        for at, found, is_end in _steps(path):
            mode = found.st_mode
            if found.st_uid not in ours:
                raise InputError(f"{at}: belongs to another user ({_user_name(found.st_uid)}); {mend}")
            open_to_moves = is_end or not mode & stat.S_ISVTX
            if open_to_moves and not stat.S_ISLNK(mode) and _others_write(found):
                raise InputError(f"{at}: others can write to it; `chmod go-w {at}`, or {mend}")
    except OSError as error:
        raise InputError(f"{path}: cannot be used ({error.strerror}); {mend}") from None


def check_secret(path: Path, mend: str) -> None:
    """Raise InputError if somebody but the user and root could read or change a file.

    Parameters
    ----------
    mend
        As in `check_private`.
    """
    check_private(path, mend)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"{path}: others can read it (mode {stat.S_IMODE(mode):04o}); {mend}")


def check_links(path: Path) -> None:
    """Raise InputError at a link that somebody else left where all may write, as in /tmp; other links are followed.

    Linux itself follows no such link, but does not know what becomes of a path that is resolved beforehand.
    """
    for at, found, _ in _steps(path):
        if stat.S_ISLNK(found.st_mode):
            folder = at.parent.stat()
            for_all = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
            if for_all and found.st_uid not in (os.geteuid(), folder.st_uid):
                raise InputError(
                    f"{at}: is a link that another user made ({_user_name(found.st_uid)}); choose another path"
                )


def check_entries(folder: Path) -> None:
    """Raise InputError if an entry of a folder is a link or another user's, as may be left from before it was ours."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise InputError(f"{entry.path}: is a link, and none is followed here; remove it")
                if (owner := entry.stat(follow_symlinks=False).st_uid) not in (0, os.geteuid()):
                    raise InputError(f"{entry.path}: belongs to another user ({_user_name(owner)}); remove it")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None


def is_own_folder(path: Path) -> bool:
    """Whether there is a folder of this user at a path, and no link."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def make_private(folder: Path) -> None:
    """Create a folder, and those above it that are missing, for this user alone; raise OSError where that fails."""
    missing = [entry for entry in (folder, *folder.parents) if not entry.exists()]
    for entry in reversed(missing):
        entry.mkdir(mode=0o700, exist_ok=True)


def _others_write(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid)))


def _is_private(group_id: int) -> bool:
    """Whether a group is root's or the user's own, with nobody else in it, as many systems make for every user."""
    try:
        group, user = grp.getgrgid(group_id), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name in (user, "root") and set(group.gr_mem) <= {user, "root"}


def _user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"uid {user_id}"
