"""Every error Gridpost tells somebody: whose fault, which stable code, whether to retry, what to do.

Floor 0. Two branches only, of `faults.py`: `PeerFault` (the sender, the file, the command line) and `OurFault`
(this program or its store). A leaf's docstring is written for the operator of the other side and is what
`docs/errors.md` shows. `detail` is for the audit log and never leaves the house; `reason` may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from .faults import AFTER_FIX as AFTER_FIX
from .faults import LATER as LATER
from .faults import NEVER as NEVER
from .faults import GridpostError as GridpostError
from .faults import Item as Item
from .faults import OurFault as OurFault
from .faults import PeerFault as PeerFault
from .faults import summary as summary

# --- before the signature is checked: the code is all the peer learns ------------------------------------------------


class MessageTooLarge(PeerFault):
    """The message is larger than this endpoint takes. Send fewer intervals in one message."""

    code, http_status = "message-too-large", 413


class MalformedXml(PeerFault):
    """The message is not well-formed XML 1.0 in UTF-8."""

    code = "malformed-xml"


class ForbiddenMarkup(PeerFault):
    """The message holds a document type, comment, CDATA section or processing instruction; SOAP 1.1 section 3."""

    code = "forbidden-markup"


class LimitExceeded(PeerFault):
    """The message has more elements, attributes, namespaces or levels than any real one needs."""

    code = "limit-exceeded"


class VersionMismatch(PeerFault):
    """The outermost element is not a SOAP 1.1 Envelope."""

    code, soap_fault = "version-mismatch", "VersionMismatch"


class MustUnderstand(PeerFault):
    """A header marked mustUnderstand is not one we know."""

    code, soap_fault = "must-understand", "MustUnderstand"


class EnvelopeShape(PeerFault):
    """The envelope is not Header (one Security), Body (one child); see docs/protocol.md."""

    code = "envelope-shape"


class SignatureInvalid(PeerFault):
    """The message's signature or signer is not accepted. Check the device's clock, certificate and enrolment."""

    code = "signature-invalid"


class ActionMismatch(PeerFault):
    """The SOAPAction header names another operation than the message carries."""

    code = "action-mismatch"


class NotAuthenticated(PeerFault):
    """The sender is not known here, or did not prove itself as its entry asks: check certificate, password, clock."""

    code = "not-authenticated"


# --- after the signature is checked: a signed refusal ----------------------------------------------------------------


class SourceMismatch(PeerFault):
    """Header/Source names another IED than the one whose key signed the message."""

    code, retry = "source-mismatch", NEVER


class UnknownOperation(PeerFault):
    """The Body's child is not a message this endpoint knows."""

    code = "unknown-operation"


class SchemaInvalid(PeerFault):
    """The message does not follow its schema; each finding is listed with its path."""

    code = "schema-invalid"


class HeaderIncomplete(PeerFault):
    """Header lacks Source, MessageID or Timestamp, or one of them has no usable form, or Context is not PRODUCTION."""

    code = "header-incomplete"


class MessageIdReused(PeerFault):
    """This MessageID was already used for other content. Give new content a new MessageID."""

    code, retry = "message-id-reused", NEVER


class CertificateNotAccepted(PeerFault):
    """The certificate was revoked or has expired. Enrol the device again."""

    code = "certificate-not-accepted"


class KeyReplaced(PeerFault):
    """A newer key of this device has replaced this one, and their overlap is over. Seal with the newer key."""

    code = "key-replaced"


class RevocationUnknown(PeerFault):
    """Whether this key was revoked is not known here now: its CA's list is out of date. Send the same message later."""

    code, retry = "revocation-unknown", LATER


class RightMissing(PeerFault):
    """This key may not send messages of this kind. Seal with a key that may, or ask the operator for the right."""

    code = "right-missing"


class FactorFailed(PeerFault):
    """What the bus knows of this device besides its key does not fit; each factor that does not is listed."""

    code = "factor-failed"


class OutsideHours(PeerFault):
    """This device may not send at this time of day. Send the same message later."""

    code, retry = "outside-hours", LATER


class MessageStale(PeerFault):
    """The Timestamp is too old for this transport. Set the clock by the time in this answer and seal again."""

    code, retry = "message-stale", LATER


class MessageFromFuture(PeerFault):
    """The Timestamp lies more than 60 s in the future. Set the clock by the time in this answer and seal again."""

    code, retry = "message-from-future", LATER


class ReadingInFuture(PeerFault):
    """An interval ends more than 60 s after reception. Check the clock; the same message may be sent again later."""

    code, retry = "reading-in-future", LATER


class ReadingsRefused(PeerFault):
    """One or more readings cannot be taken, so none was; each is listed."""

    code = "readings-refused"


# --- offices -------------------------------------------------------------------------------------------------------


class NotGranted(PeerFault):
    """This partner may not do or see that, or it does not exist: its role, or a grant for the place, kind or period."""

    code = "not-granted"


class ReplyAddressRefused(PeerFault):
    """Header/ReplyAddress is not the endpoint on file for this partner. Leave it out, or have the endpoint changed."""

    code = "reply-address-refused"


class QueryRefused(PeerFault):
    """The page, data version, period or limit asked for cannot be used; the reason says which."""

    code = "query-refused"


# --- files and command lines -----------------------------------------------------------------------------------------


class ControlsRefused(PeerFault):
    """At least one of the controls asked for cannot be; none was taken. Each finding names its control and the rule."""

    code = "controls-refused"


class ControlMoved(PeerFault):
    """The control is in a state in which this can no longer, or not yet, be done to it; look at its steps."""

    code, retry = "control-moved", NEVER


class FileInvalid(PeerFault):
    """The file is not a valid file of its format; the place and the reason are named."""

    code = "file-invalid"


class CannotRepresent(PeerFault):
    """The target format cannot hold what the source has; each loss is listed. A site table may give what is missing."""

    code = "cannot-represent"


class TariffRefused(PeerFault):
    """The tariff has holes, overlaps, tiers out of order or what is no number; each is listed. The old one stays."""

    code = "tariff-refused"


class ContractRefused(PeerFault):
    """The contract cannot be made or decided so: tariff, dates or an earlier decision; the reason says which."""

    code = "contract-refused"


class BillRefused(PeerFault):
    """No bill can be made of this: readings, prices or channels are missing or do not fit; each is listed."""

    code = "bill-refused"


class NotDecryptable(PeerFault):
    """What is encrypted cannot be opened with this key: it is another's, or it was changed on the way."""

    code, retry = "not-decryptable", NEVER


class ConfigInvalid(PeerFault):
    """The configuration or command line has an unknown key, a missing one, or a value that cannot be used here."""

    code = "config-invalid"


class PartnerRefused(PeerFault):
    """A partner's service does not take this message; its findings are listed. Mend the cause and send it again."""

    code = "partner-refused"


class NotFound(PeerFault):
    """No IED, meter, file or folder of that name exists."""

    code = "not-found"


class AlreadyExists(PeerFault):
    """It exists already, or is taken or at work; nothing was changed."""

    code = "already-exists"


class FileUnwritable(PeerFault):
    """The file cannot be written there: check the folder, the rights and the space. Nothing half written is left."""

    code = "file-unwritable"


class EnrolmentRefused(PeerFault):
    """The enrolment code is unknown, used up by another key, or its proof does not match the request."""

    code, http_status, retry = "enrolment-refused", 403, NEVER


class GrantRefused(PeerFault):
    """What is named is not in the partner's tenant, or no such kind of data exists. Ask whoever runs the bus."""

    code, http_status, retry = "grant-refused", 403, NEVER


class AnswerUntrusted(PeerFault):
    """The answer is not signed by the bus this device pinned, or answers another message; it counts as no answer."""

    code, retry = "answer-untrusted", LATER


# --- our own ---------------------------------------------------------------------------------------------------------


class StoreUnavailable(OurFault):
    """The store cannot be used now and nothing was kept. Mend what is named; send the same message again later."""

    code = "store-unavailable"


class SignerUnavailable(OurFault):
    """No receipt can be signed now, so nothing was kept. Send the same message again later."""

    code = "signer-unavailable"


class BusUnreachable(OurFault):
    """The bus did not answer: name, network, proxy or certificate. Readings wait in the spool."""

    code = "bus-unreachable"


class PartnerUnreachable(OurFault):
    """A partner's service does not answer, or not as its description says. The message is kept and sent again later."""

    code = "partner-unreachable"


class MeterUnreachable(OurFault):
    """The meter does not answer, or answers with an exception."""

    code = "meter-unreachable"


class Internal(OurFault):
    """A defect in this program. The message was not stored."""

    code, http_status = "internal-error", 500


def explained(error: GridpostError) -> str:
    """Return what a command prints of an error: code and reason, each item on a line, what to do."""
    lines = [f"error[{error.code}]: {error.reason}"]
    items = error.items
    if len(items) == 1 and items[0].reason in error.reason and items[0].path in error.reason:
        items = ()  # the reason says it all
    lines += [f"  {item.path + ': ' if item.path else ''}{item.reason} [{item.code}]" for item in items]
    advice = summary(type(error))
    return "\n".join(lines if advice == error.reason else [*lines, f"  {advice}"])


def as_object(error: GridpostError) -> dict[str, object]:
    """Return what a command with --json prints of an error: ``{"error": {code, reason, items}}``."""
    return {"error": {"code": error.code, "reason": error.reason, "items": [asdict(item) for item in error.items]}}


def of_os(error: OSError) -> FileUnwritable:
    """Return the leaf for an error no command expects: a disk or rights that changed under its feet."""
    where = f"{error.filename}: " if error.filename else ""
    return FileUnwritable(f"{where}{error.strerror or error}")


def leaves(branch: type[GridpostError] = GridpostError) -> Iterator[type[GridpostError]]:
    """Yield every leaf of the tree below `branch`."""
    for child in branch.__subclasses__():
        if child.code:
            yield child
        else:
            yield from leaves(child)
