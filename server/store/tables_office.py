"""The tables of the office side: partners and what they may see, controls and their lives, mailboxes.

As in `tables.py`, whose metadata this is: a column's meaning and unit stand in migrations/versions/0005 and 0007.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, ForeignKeyConstraint, Index, Integer, LargeBinary, Table, Text

from .tables import metadata, needed, of_entry, row_key

partner = Table(
    "partner",
    metadata,
    Column("id", Text, primary_key=True),
    needed("name", Text),
    needed("role", Text),
    needed("tenant", Text),
    needed("by_signature", Integer),
    needed("by_tls", Integer),
    needed("by_username", Integer),
    needed("unsigned_commands", Integer),
    needed("endpoint", Text),
    needed("wsdl", Text),
    needed("valid_from_utc_ms", BigInteger),
    Column("valid_to_utc_ms", BigInteger),
    Column("password", Text),
    needed("ca", Text),
    needed("push_user", Text),
    needed("push_password_file", Text),
)

partner_certificate = Table(
    "partner_certificate",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("partner", Text, ForeignKey("partner.id"), nullable=False),
    needed("use", Text),
    needed("bound_at_utc_ms", BigInteger),
    Column("revoked_at_utc_ms", BigInteger),
    needed("der", LargeBinary),
)
Index("partner_certificate_partner", partner_certificate.c.partner)

partner_grant = Table(
    "partner_grant",
    metadata,
    Column("partner", Text, ForeignKey("partner.id"), primary_key=True),
    Column("usage_point", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("from_utc", BigInteger, primary_key=True, autoincrement=False),
    Column("to_utc", BigInteger),
)
Index("partner_grant_usage_point", partner_grant.c.usage_point)

ied_tenant = Table(
    "ied_tenant",
    metadata,
    Column("serial", Text, ForeignKey("ied.serial"), primary_key=True),
    Column("tenant", Text, primary_key=True),
)
Index("ied_tenant_tenant", ied_tenant.c.tenant)

ied_group = Table(
    "ied_group",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("serial", Text, ForeignKey("ied.serial"), primary_key=True),
)

# The columns behind the key are those of gridpost/leaf.py ControlRow, in its order.
control = Table(
    "control",
    metadata,
    *row_key(),
    needed("issuer", Text),
    needed("role", Text),
    needed("tracking_id", Text),
    needed("action", Text),
    needed("target", Text),
    needed("output", Text),
    needed("value", Text),
    needed("unit", Text),
    needed("not_before_utc_ms", BigInteger),
    needed("expires_utc_ms", BigInteger),
    needed("need_by_utc_ms", BigInteger),
    needed("priority", Integer),
    needed("reason", Text),
    needed("group_name", Text),
    needed("data", Text),
    needed("state", Text),
    of_entry(),
)
Index("control_tracking", control.c.issuer, control.c.tracking_id)
Index("control_target", control.c.target)


def _of_control() -> ForeignKeyConstraint:
    key = ["partition", "seq", "line"]
    return ForeignKeyConstraint(key, [f"control.{name}" for name in key])


control_step = Table(
    "control_step",
    metadata,
    *row_key(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    needed("state", Text),
    needed("at_utc_ms", BigInteger),
    needed("by_whom", Text),
    needed("detail", Text),
    _of_control(),
)

control_now = Table(
    "control_now",
    metadata,
    *row_key(),
    needed("target", Text),
    needed("state", Text),
    needed("steps", Integer),
    needed("priority", Integer),
    needed("not_before_utc_ms", BigInteger),
    needed("expires_utc_ms", BigInteger),
    Column("released_at_utc_ms", BigInteger),
    Column("closed_at_utc_ms", BigInteger),
    _of_control(),
)
_OPEN = control_now.c.closed_at_utc_ms.is_(None)
for _name, _columns in {
    "control_now_target": (control_now.c.target, control_now.c.state, control_now.c.not_before_utc_ms),
    "control_now_due": (control_now.c.state, control_now.c.not_before_utc_ms),
    "control_now_expires": (control_now.c.expires_utc_ms,),
}.items():
    Index(_name, *_columns, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("control_now_released", control_now.c.released_at_utc_ms)

control_sealed = Table(
    "control_sealed",
    metadata,
    *row_key(),
    needed("target", Text),
    needed("counter", BigInteger),
    needed("at_utc_ms", BigInteger),
    needed("sealed", LargeBinary),
    _of_control(),
)
Index("control_sealed_counter", control_sealed.c.target, control_sealed.c.counter, unique=True)

control_counter = Table(
    "control_counter",
    metadata,
    Column("target", Text, primary_key=True),
    needed("counter", BigInteger),
)

control_mark = Table(
    "control_mark",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    needed("mark", BigInteger),
)

mailbox = Table(
    "mailbox",
    metadata,
    Column("partner", Text, ForeignKey("partner.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    needed("kind", Text),
    needed("noun", Text),
    needed("correlation_id", Text),
    needed("partition", Integer),
    needed("seq", BigInteger),
    needed("line", Integer),
    needed("made_at_utc_ms", BigInteger),
    needed("content", LargeBinary),
    of_entry(),
)
Index(
    "mailbox_once",
    mailbox.c.partner,
    mailbox.c.partition,
    mailbox.c.seq,
    mailbox.c.kind,
    mailbox.c.line,
    unique=True,
)

mailbox_cursor = Table(
    "mailbox_cursor",
    metadata,
    Column("partner", Text, ForeignKey("partner.id"), primary_key=True),
    needed("last", BigInteger),
    needed("committed", BigInteger),
)
