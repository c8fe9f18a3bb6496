"""Delivery into a directory, on a real one."""

from __future__ import annotations

import os
import sys

import pytest
from gridpost.adapters.delivery import Directory

from gridpost.errors import AlreadyExists, CannotRepresent, StoreUnavailable


def test_a_file_is_there_whole_under_its_name_and_nothing_else(tmp_path):
    place = Directory(tmp_path / "out").deliver("M1_20260301_r01.mde", b"\0" * 1000)
    assert place == str(tmp_path / "out" / "M1_20260301_r01.mde")
    assert [(entry.name, entry.stat().st_size) for entry in (tmp_path / "out").iterdir()] == [
        ("M1_20260301_r01.mde", 1000)
    ]


def test_the_same_again_changes_nothing(tmp_path):
    folder = Directory(tmp_path)
    place = folder.deliver("a.mde", b"one")
    before = os.stat(place)
    assert folder.deliver("a.mde", b"one") == place
    after = os.stat(place)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_content_never_takes_a_known_name(tmp_path):
    folder = Directory(tmp_path)
    folder.deliver("a.mde", b"one")
    with pytest.raises(AlreadyExists):
        folder.deliver("a.mde", b"two")
    assert (tmp_path / "a.mde").read_bytes() == b"one"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../a", "/etc/passwd", "a/b", "a\\b", "a\0b", ".hidden", "a..b", "a.", "a ", "CON", "nul.mde",
        "lpt1.txt", "a:b", "a\nb", "a*", "M\u00e9ter.mde", "a\u202eb", "x" * 201,
    ],
)  # fmt: skip
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path, name):
    with pytest.raises(CannotRepresent):
        Directory(tmp_path / "out").deliver(name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_a_crash_is_no_hindrance(tmp_path):
    (tmp_path / ".a.mde.part").write_bytes(b"half")
    Directory(tmp_path).deliver("a.mde", b"whole")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a.mde", b"whole")]


def test_a_planted_link_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".a.mde.part").symlink_to(outside)
    (folder / "b.mde").symlink_to(outside)
    Directory(folder).deliver("a.mde", b"new")
    with pytest.raises(AlreadyExists):
        Directory(folder).deliver("b.mde", b"mine")
    assert outside.read_bytes() == b"mine"


def test_a_missing_parent_is_reported_as_not_now(tmp_path):
    with pytest.raises(StoreUnavailable, match=r"a\.mde cannot be written"):
        Directory(tmp_path / "unmounted" / "out").deliver("a.mde", b"x")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    real_open = os.open

    def open_full(path, flags, mode=0o777, **keywords):
        if str(path).endswith(".part"):
            real_open_handle = real_open(path, flags, mode, **keywords)
            os.close(real_open_handle)
            return real_open("/dev/full", os.O_WRONLY)
        return real_open(path, flags, mode, **keywords)

    monkeypatch.setattr(os, "open", open_full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        Directory(tmp_path).deliver("a.mde", b"x" * 100000)
    assert list(tmp_path.iterdir()) == []
