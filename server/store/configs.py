"""Channels of IEDs that are enrolled: further ones added, ended ones closed, by word of a partner.

As in `enrolments.py`: plain transactions beside a running bus; each raises `enrolment_version`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from gridpost.errors import FileInvalid, NotFound
from gridpost.model import Channel

from .channel_rules import check_set, place
from .enrolments import Enrolments, owned_channels, put_channel
from .tables import channel, ied


class Configs(Enrolments):
    """A part of `SqlStore`."""

    def put_channels(self, changes: Sequence[tuple[str, Sequence[Channel]]]) -> None:
        """Add or end channels of IEDs, all or none; doing it again changes nothing.

        Args:
            changes: serial and channels. One that is on file with the same `valid_from_utc` and no end gets the end
                stated; any other is added.

        Raises:
            FileInvalid: the channels are wrong or ambiguous; each finding is listed.
            AlreadyExists: another IED has one of the channels.
            NotFound: no such IED.
        """
        with self._change() as connection:
            for serial, channels in changes:
                _put(connection, serial, channels)


def _put(connection: Connection, serial: str, channels: Sequence[Channel]) -> None:
    if items := check_set(channels):
        raise FileInvalid(f"{len(items)} finding(s) in the channels of {serial}", items=items)
    if connection.execute(select(ied.c.serial).where(ied.c.serial == serial)).first() is None:
        raise NotFound(f"no IED {serial}")
    owned = owned_channels(connection, {one.key.meter for one in channels})
    for one in channels:
        if not _ended(connection, serial, one):
            put_channel(connection, serial, one, owned.get(place(one), ()))


def _ended(connection: Connection, serial: str, one: Channel) -> bool:
    """Give a channel on file its end; tell whether there is such a channel."""
    if one.valid_to_utc is None:
        return False
    c = channel.c
    same = [c.serial == serial, c.valid_from_utc == one.valid_from_utc]
    same += [c[name] == value for name, value in one.key._asdict().items()]
    return bool(connection.execute(update(channel).where(*same).values(valid_to_utc=one.valid_to_utc)).rowcount)
