"""What the index of an archive holds: where the bytes of each member lie, or why they cannot be had."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from pfgdata.corpus.names import is_image, is_passed_over, is_sidecar

__all__ = ["SYMBOLIC_LINK", "Index", "Member", "left_over"]

SYMBOLIC_LINK = "a symbolic link in its archive, which is not followed; pack the file it leads to"

_PIECE = 1 << 20  # bytes looked through at a time


class Member(NamedTuple):
    """Where the bytes of one file of an archive lie; `problem` says why there are none to be had."""

    size: int = 0  # unpacked
    offset: int = 0  # of the bytes in a tar, of the local header in a zip
    packed: int = 0  # bytes in the archive
    method: int | None = None  # of a zip: stored or deflated; None in a tar
    crc: int = 0
    problem: str | None = None
    listed: bool = False  # by an index beside its tar, which the header before the bytes must confirm


@dataclass(slots=True)
class Index:
    """The images of one archive by name; `problem` says why there may be more."""

    members: dict[bytes, Member] = field(default_factory=dict)
    sidecars: dict[bytes, Member] = field(default_factory=dict)  # what may hold captions, ignored by a walk
    ignored: int = 0  # no images by name, or hidden
    problem: str | None = None

    def add(self, name: bytes, member: Member) -> None:
        """Take a member, unless it is a folder, for what its name says; of several with one name the last."""
        if is_image(name) and not is_passed_over(name):
            self.members[name] = member
            return
        self.ignored += 1
        if is_sidecar(name):
            self.sidecars[name] = member

    def say(self, problem: str) -> None:
        """Note why images may be missing; what was noted first stays, for the rest may follow from it."""
        self.problem = self.problem or problem


def left_over(file: BinaryIO, at: int) -> int:
    """The number of bytes from the first after `at` that is not zero to the end of the file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(at)
    while piece := file.read(_PIECE):
        if rest := piece.lstrip(b"\0"):
            return end - file.tell() + len(rest)
    return 0
