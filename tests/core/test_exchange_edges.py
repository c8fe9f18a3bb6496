"""Where exactly `exchange` draws its lines: the ends of a certificate's validity, and when it looks twice."""

from datetime import UTC, datetime

import pytest
from forging import Setting, draft

from gridpost import exchange, heads, testing
from gridpost.envelope import Envelope
from gridpost.errors import AnswerUntrusted
from gridpost.recogniser import Plain

NOW = testing.NOW_UTC_MS
CA = testing.ThrowawayCA()
DEVICE = CA.issue_device("IED1")
SETTING = Setting(DEVICE, "IED1", testing.channel(1), NOW, DEVICE, "IED1", testing.channel(1))
ENROLMENT = testing.enrolment(DEVICE, "IED1", [testing.channel(1)])
FIRST, LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
FIRST_MS, LAST_MS = 1_767_225_600_000, 1_767_312_000_000  # the same, by `date -d 2026-01-01 +%s`


def test_a_certificate_is_valid_at_both_its_ends():
    """RFC 5280 section 4.1.2.5: notBefore through notAfter, inclusive; its times are whole seconds."""
    certificate = CA.issue_device("IED1", valid=(FIRST, LAST)).certificate
    moments = (FIRST_MS - 1, FIRST_MS, LAST_MS, LAST_MS + 999, LAST_MS + 1000)
    assert [exchange.valid_at(certificate, at) for at in moments] == [False, True, True, True, False]


def test_our_own_layout_goes_the_short_way_and_any_other_the_long_one():
    """What comes of a message does not depend on it, but what it costs does (ADR 0011)."""
    message = testing.readings_message("IED1", "m-1", [testing.block(testing.channel(1), NOW // 1000, ["1.5"])])
    assert isinstance(exchange.read(testing.sealed(message, DEVICE)), Plain)
    assert isinstance(exchange.read(draft(SETTING).sealed()), Envelope)


@pytest.mark.parametrize("blank", ["", " \n\t"])
def test_an_ordinary_payload_is_canonicalised_once(monkeypatch, blank):
    """It is cut out of the Body's canonical form; a second time would be a tenth of the whole way in."""
    body = f'<soap:Body wsu:Id="body">{blank}{{payload}}{blank}</soap:Body>'
    payload = SETTING.payload()
    envelope = exchange.read(draft(SETTING, payload, body=body).sealed())
    monkeypatch.setattr(exchange, "canonical", None)
    assert exchange.verify(envelope, ENROLMENT).content_digest == exchange.content_digest(payload.encode())


def head(signer, at=NOW):
    made = heads.TreeHead("bus", 0, 1, bytes(32), at)
    return exchange.seal(heads.encode(made), signer, at), made


def test_a_head_must_have_been_signed_while_the_buss_certificate_was_valid():
    bus = CA._issue("bus", None, (FIRST, LAST), [exchange.BUS_KEY_USAGE])
    trust = exchange.Trust(CA.certificate)
    for at in (FIRST_MS, LAST_MS):
        raw, made = head(bus, at)
        assert exchange.open_head(raw, trust) == made
    for at in (FIRST_MS - 1, LAST_MS + 1000):
        with pytest.raises(AnswerUntrusted):
            exchange.open_head(head(bus, at)[0], trust)
