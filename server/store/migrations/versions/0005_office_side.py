"""The office side: partners and their grants, controls and their lives, mailboxes.

A column's meaning and unit is its comment, as in 0001. Revision 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str, comment: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=nullable, comment=comment)


def _key(name: str, comment: str, *references: sa.ForeignKey) -> sa.Column[str]:
    return sa.Column(name, _TEXT, *references, primary_key=True, comment=comment)


def _int(name: str, comment: str, *, nullable: bool = False, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, autoincrement=False, nullable=nullable, comment=comment)


def _small(name: str, comment: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=key, autoincrement=False, nullable=False, comment=comment)


def _bytes(name: str, comment: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False, comment=comment)


def _control_key(whose: str) -> tuple[sa.Column[int], ...]:
    return (
        _small("partition", f"log partition of the entry that asked for {whose}", key=True),
        _int("seq", "the entry's number in its partition", key=True),
        _small("line", "number of the control among the entry's controls, from 0", key=True),
    )


def _of_control() -> sa.ForeignKeyConstraint:
    key = ["partition", "seq", "line"]
    return sa.ForeignKeyConstraint(key, [f"control.{name}" for name in key])


def _of_entry() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["partition", "seq"], ["entry.partition", "entry.seq"])


def upgrade() -> None:
    """Make all tables, and the indexes that offices' questions need; or find them as `downgrade` left them."""
    if not op.get_context().as_sql and sa.inspect(op.get_bind()).has_table("control"):
        return
    op.create_index("channel_usage_point", "channel", ["usage_point"])
    op.create_index("event_asset", "event", ["asset", "created_utc_ms"])
    _partners()
    _groups()
    _controls()
    _lives()
    _mailboxes()


def downgrade() -> None:
    """Leave all of it where it is: an older Gridpost does not look at it.

    The leaves of the log cover the controls. Dropped, they would be missing from their entries for ever.
    """


def _partners() -> None:
    op.create_table(
        "partner",
        _key("id", "Source of its messages and sender of its entries; never an IED's serial"),
        _text("name", "what people call it"),
        _text("role", "utility, supplier, customer, third-party or operator"),
        _text("tenant", "whose usage points it can be granted"),
        _small("by_signature", "1: a signed message proves who it is; 0: it does not"),
        _small("by_tls", "1: a TLS client certificate does; 0: not"),
        _small("by_username", "1: a UsernameToken over TLS does; 0: not"),
        _small("unsigned_commands", "1: its commands count without a signature; 0: they become proposals"),
        _text("endpoint", "URL its messages are pushed to; empty: it fetches from its mailbox"),
        _text("wsdl", "path or URL of its own WSDL; empty: none"),
        _int("valid_from_utc_ms", "from when on it is a partner"),
        _int("valid_to_utc_ms", "from when on it no longer is; NULL: no end", nullable=True),
        _text("password", "hash of its password, with salt and cost; NULL: none", nullable=True),
        comment="offices that use the bus",
    )
    op.create_table(
        "partner_certificate",
        sa.Column("sha256", sa.LargeBinary, primary_key=True, comment="SHA-256 of `der`"),
        sa.Column("partner", _TEXT, sa.ForeignKey("partner.id"), nullable=False, comment="whose, for ever"),
        _text("use", "signature: signs messages; tls: TLS client certificate"),
        _int("bound_at_utc_ms", "when it became the partner's"),
        _int("revoked_at_utc_ms", "from when on it proves nothing new; NULL while in force", nullable=True),
        _bytes("der", "the certificate, DER"),
        comment="partners' certificates, kept for ever: entries name what they signed",
    )
    op.create_index("partner_certificate_partner", "partner_certificate", ["partner"])
    op.create_table(
        "partner_grant",
        _key("partner", "who may see", sa.ForeignKey("partner.id")),
        _key("usage_point", "mRID of the usage point"),
        _key("kind", "billing, power-quality, events or commands"),
        _int("from_utc", "of interval ends and moments, UTC seconds, exclusive", key=True),
        _int("to_utc", "inclusive; NULL: no end", nullable=True),
        comment="what partners may see; it holds while the usage point's IED is in the partner's tenant",
    )
    op.create_index("partner_grant_usage_point", "partner_grant", ["usage_point"])


def _groups() -> None:
    op.create_table(
        "ied_tenant",
        _key("serial", "the IED", sa.ForeignKey("ied.serial")),
        _key("tenant", "a tenant it belongs to, and its usage points with it"),
        comment="which tenants may be told of which IEDs",
    )
    op.create_index("ied_tenant_tenant", "ied_tenant", ["tenant"])
    op.create_table(
        "ied_group",
        _key("tenant", "whose group"),
        _key("name", "the group's name within the tenant"),
        _key("serial", "an IED in it", sa.ForeignKey("ied.serial")),
        comment="groups of IEDs that a command may name",
    )


def _controls() -> None:
    op.create_table(
        "control",
        *_control_key("it"),
        _text("issuer", "partner that asked for it"),
        _text("role", "what that partner was when it asked"),
        _text("tracking_id", "the issuer's own mRID of it"),
        _text("action", "name of the action, gridpost/controls.py ACTIONS"),
        _text("target", "serial of the IED that is to act"),
        _text("output", "the IED's output it names; empty: none"),
        _text("value", "exact decimal as sent; empty: none"),
        _text("unit", "symbol of the value's unit; empty: none"),
        _int("not_before_utc_ms", "not acted on earlier; 0: at once"),
        _int("expires_utc_ms", "not acted on from then on"),
        _int("need_by_utc_ms", "when the issuer needs the effect; 0: not stated"),
        _small("priority", "0 (most urgent) to 9"),
        _text("reason", "free text"),
        _text("group_name", "group of IEDs it was asked for; empty: none"),
        _text("data", "JSON array of [name, value]: what else the action needs, in the order sent"),
        _text("state", "how it began: proposed, held or waiting"),
        _of_entry(),
        comment="commands, one row for each IED; immutable, in the leaf of their entry",
    )
    op.create_index("control_tracking", "control", ["issuer", "tracking_id"])
    op.create_index("control_target", "control", ["target"])
    op.create_table(
        "control_step",
        *_control_key("the control"),
        _small("number", "the step's number in the control's life, from 0, without holes", key=True),
        _text("state", "the state entered"),
        _int("at_utc_ms", "when"),
        _text("by_whom", "partner, IED, person or `bus`"),
        _text("detail", "why, in words; may be empty"),
        _of_control(),
        comment="lives of controls; append-only, the last step says where one is",
    )


def _lives() -> None:
    op.create_table(
        "control_now",
        *_control_key("the control"),
        _text("target", "serial of the IED, as in control"),
        _text("state", "state of its last step"),
        _small("steps", "how many steps it has"),
        _small("priority", "as in control"),
        _int("not_before_utc_ms", "as in control"),
        _int("expires_utc_ms", "as in control"),
        _int("released_at_utc_ms", "when it began to wait for its IED; NULL: never released", nullable=True),
        _int("closed_at_utc_ms", "when it came to a final state; NULL while it can go on", nullable=True),
        _of_control(),
        comment="where each control is, so that nobody walks through its steps",
    )
    still_open = sa.text("closed_at_utc_ms IS NULL")
    for name, columns in {
        "control_now_target": ["target", "state", "not_before_utc_ms"],
        "control_now_due": ["state", "not_before_utc_ms"],
        "control_now_expires": ["expires_utc_ms"],
    }.items():
        op.create_index(name, "control_now", columns, sqlite_where=still_open, postgresql_where=still_open)
    op.create_index("control_now_released", "control_now", ["released_at_utc_ms"])
    op.create_table(
        "control_sealed",
        *_control_key("the control"),
        _text("target", "serial of the IED it is sealed for"),
        _int("counter", "rising for the IED, from 1"),
        _int("at_utc_ms", "when it was sealed: at its first fetch"),
        _bytes("sealed", "the signed answer, byte for byte; every further fetch gets it"),
        _of_control(),
        comment="controls as handed to their IEDs",
    )
    op.create_index("control_sealed_counter", "control_sealed", ["target", "counter"], unique=True)
    op.create_table(
        "control_counter",
        _key("target", "serial of the IED"),
        _int("counter", "the last one given; 0: none yet"),
        comment="counters of IEDs; whoever gives the next one locks the row",
    )
    op.create_table(
        "control_mark",
        _small("id", "1: the only row", key=True),
        _int("mark", "rises whenever a control begins to wait for its IED: who holds fetches open compares it"),
        comment="tells every bus that another one has something for an IED",
    )
    op.execute("INSERT INTO control_mark (id, mark) VALUES (1, 0)")


def _mailboxes() -> None:
    op.create_table(
        "mailbox",
        _key("partner", "whose", sa.ForeignKey("partner.id")),
        _int("number", "rising for the partner, from 1, without holes", key=True),
        _text("kind", "what it is about; with partition, seq and line it names the mail"),
        _text("noun", "MeterReadings, EndDeviceEvents, EndDeviceControls ..."),
        _text("correlation_id", "id of the partner's message it answers; empty: none"),
        _small("partition", "log partition of the entry it comes from"),
        _int("seq", "and its number there"),
        _small("line", "which of several mails of that kind from that entry, from 0"),
        _int("made_at_utc_ms", "when it was put here"),
        _bytes("content", "the Body's child, canonical XML"),
        _of_entry(),
        comment="what waits for partners; delivered at least once, in order of its number",
    )
    key = ["partner", "partition", "seq", "kind", "line"]
    op.create_index("mailbox_once", "mailbox", key, unique=True)
    op.create_table(
        "mailbox_cursor",
        _key("partner", "whose", sa.ForeignKey("partner.id")),
        _int("last", "number of its newest mail; 0: none. Whoever gives the next one locks the row"),
        _int("committed", "the partner has taken all up to this number; 0: none"),
        comment="how far each partner has come in its mailbox",
    )
