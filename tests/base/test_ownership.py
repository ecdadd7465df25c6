"""What only the user can change, with other users' folders and links where the tests run as root."""

import os
from pathlib import Path

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.ownership import check_entries, check_links, check_private, is_own_folder, make_private

STRANGER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def give_away(folder: Path) -> None:
    """Make a folder and all in it a stranger's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def shared(path: Path, mode: int) -> Path:
    """Make a folder with just this mode, whatever the umask."""
    path.mkdir()
    path.chmod(mode)
    return path


def refusal(path: Path, trusted: tuple[int, ...] = ()) -> str:
    with pytest.raises(InputError) as caught:
        check_private(path, "choose another", trusted)
    return str(caught.value)


def test_own_folders_are_private_and_so_is_what_comes_to_them(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "new" / "newer", Path("/"), shared(tmp_path / "a", 0o755) / ".." / "a"):
        check_private(path, "choose another")
    (tmp_path / "link").symlink_to("a")
    check_private(tmp_path / "link", "choose another")


def test_folders_that_others_can_write_to(tmp_path: Path) -> None:
    everybody = shared(tmp_path / "everybody", 0o777)
    mend = f"{everybody}: others can write to it; `chmod go-w {everybody}`, or choose another"
    assert refusal(everybody) == mend
    assert refusal(everybody / "new") == mend
    assert refusal(shared(everybody / "inner", 0o700)) == mend
    (tmp_path / "link").symlink_to("everybody/inner")
    assert refusal(tmp_path / "link") == mend
    (tmp_path / "whole").symlink_to(everybody / "inner")
    assert refusal(tmp_path / "whole" / "new") == mend
    everybody.chmod(0o755)
    check_private(everybody / "inner", "choose another")


def test_folders_like_tmp_are_on_the_way_only(tmp_path: Path) -> None:
    sticky = shared(tmp_path / "sticky", 0o1777)
    check_private(shared(sticky / "inner", 0o700), "choose another")
    for path in (sticky, sticky / "inner" / ".."):
        assert "others can write to it" in refusal(path)


@as_root
def test_groups_of_others_are_others(tmp_path: Path) -> None:
    group = shared(tmp_path / "group", 0o775)
    check_private(group, "choose another")  # root's own group, as of a umask of 002
    os.chown(group, 0, STRANGER)
    assert "others can write to it" in refusal(group)
    group.chmod(0o2755)
    check_private(group, "choose another")


@as_root
def test_folders_and_links_of_another_user(tmp_path: Path) -> None:
    theirs = shared(tmp_path / "theirs", 0o755)
    os.chown(theirs, STRANGER, STRANGER)
    mend = f"{theirs}: belongs to another user (uid {STRANGER}); choose another"
    assert refusal(theirs) == mend
    assert refusal(shared(theirs / "inner", 0o700)) == mend
    assert refusal(tmp_path / "theirs" / ".." / "theirs" / "x") == mend
    check_private(theirs, "choose another", (STRANGER,))
    sticky = shared(tmp_path / "sticky", 0o1777)
    (sticky / "link").symlink_to(tmp_path / "elsewhere")
    os.chown(sticky / "link", STRANGER, STRANGER, follow_symlinks=False)
    assert f"{sticky / 'link'}: belongs to another user" in refusal(sticky / "link" / "x")


def test_what_cannot_be_followed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be used" in refusal(tmp_path / "loop")
    assert "cannot be used" in refusal(tmp_path / ("x" * 300))


def test_entries_are_no_links(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    check_entries(tmp_path)
    check_entries(tmp_path / "none")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match=f"^{tmp_path / 'b'}: is a link, and none is followed here; remove it$"):
        check_entries(tmp_path)


@as_root
def test_entries_are_ours(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    os.chown(tmp_path / "a", STRANGER, STRANGER)
    with pytest.raises(InputError, match="a: belongs to another user"):
        check_entries(tmp_path)
    assert is_own_folder(tmp_path)
    os.chown(shared(tmp_path / "f", 0o700), STRANGER, STRANGER)
    assert not is_own_folder(tmp_path / "f")
    (tmp_path / "link").symlink_to(tmp_path)
    assert not is_own_folder(tmp_path / "link")


def test_folders_are_made_for_their_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]


@as_root
def test_an_output_follows_links_of_ours_only(tmp_path: Path) -> None:
    sticky = shared(tmp_path / "sticky", 0o1777)
    tmp_path.chmod(0o755)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = sticky / "plan.json"
    link.symlink_to(victim)
    write_bytes_atomically(link, b"ours")
    assert victim.read_bytes() == b"ours" and link.is_symlink()
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    for path in (link, link / "x"):
        with pytest.raises(InputError, match=f"^{link}: is a link that another user made"):
            check_links(path)
    with pytest.raises(InputError, match="is a link that another user made"):
        write_bytes_atomically(link, b"theirs")
    assert victim.read_bytes() == b"ours"


def test_what_is_private_replaces_a_link_and_nobody_else_reads_it(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious")
    link.symlink_to(victim)
    write_bytes_atomically(link, b"new", private=True, follow=False)
    assert victim.read_text() == "precious"
    assert link.read_bytes() == b"new" and not link.is_symlink()
    assert link.stat().st_mode & 0o777 == 0o600
    # Nor is anything tried where a link leads to.
    link.unlink()
    link.symlink_to(tmp_path / "none" / "victim")
    write_bytes_atomically(link, b"new", follow=False)
    assert link.read_bytes() == b"new" and not link.is_symlink()
