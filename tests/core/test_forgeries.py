"""Every forgery is refused with its own code and little work; every odd but genuine message comes out as it went in."""

import time
from collections import Counter
from zoneinfo import ZoneInfo

import pytest
from forgeries import forgeries, genuine
from forging import Setting

from gridpost import check, exchange, testing
from gridpost.envelope import canonical
from gridpost.errors import PeerFault, SignatureInvalid
from gridpost.model import Opened

DAY_S = 86400
CPU_S = 3.0  # the worst genuine refusal costs 0.3 s on a quiet core; what this must catch cost 8 s and more

CA = testing.ThrowawayCA()
DEVICE, NEIGHBOUR = CA.issue_device("IED1"), CA.issue_device("IED2")
SETTING = Setting(
    signer=DEVICE,
    source="IED1",
    channel=testing.channel(1, valid_from_utc=testing.NOW_UTC_MS // 1000 - 30 * DAY_S),
    now_utc_ms=testing.NOW_UTC_MS,
    neighbour=NEIGHBOUR,
    neighbour_source="IED2",
    foreign=testing.channel(9, "M9"),
)
ENROLLED = {
    signer.certificate: testing.enrolment(signer, name, [channel])
    for signer, name, channel in ((DEVICE, "IED1", SETTING.channel), (NEIGHBOUR, "IED2", SETTING.foreign))
}
FORGERIES = forgeries(SETTING)
GENUINE = genuine(SETTING)


def receive(raw: bytes, now_utc_ms: int = SETTING.now_utc_ms) -> Opened:
    """What a bus does with a new message."""
    envelope = exchange.read(raw)
    enrolment = ENROLLED.get(envelope.certificate)
    if enrolment is None:
        raise SignatureInvalid(detail="stranger")
    opened = exchange.open_(envelope, enrolment)
    check.check_moment(opened, enrolment, check.HTTP, now_utc_ms)
    check.check(opened.message, enrolment.channels, now_utc_ms, ZoneInfo)
    return opened


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_a_forgery_is_refused(forgery):
    begun = time.process_time()
    with pytest.raises(PeerFault) as refused:
        receive(forgery.raw)
    assert refused.value.code in forgery.codes, refused.value.detail or refused.value.reason
    assert time.process_time() - begun < CPU_S


def test_the_corpus_is_broad():
    sections = Counter(forgery.row[:3] for forgery in FORGERIES)
    assert sum(sections.values()) >= 150
    assert set(sections) == {"2.1", "2.2", "2.3", "2.4", "2.5"}


@pytest.mark.parametrize("message", GENUINE, ids=lambda message: message.name)
def test_a_genuine_message_is_taken_at_its_value(message):
    (block,) = receive(message.raw).message.readings.blocks
    assert block.values == (message.value,)
    assert block.ends_utc == (SETTING.last_end_utc,)


@pytest.mark.parametrize("message", GENUINE, ids=lambda message: message.name)
def test_the_content_digest_is_that_of_the_payload_alone(message):
    """It is cut out of the Body's octets where that is the same; here always the long way, by libxml2."""
    payload = exchange.read(message.raw).payload
    assert receive(message.raw).content_digest == exchange.content_digest(canonical(payload))


def test_outside_all_signature_failures_look_alike():
    reasons = set()
    for forgery in FORGERIES:
        if forgery.codes[0] == SignatureInvalid.code:
            with pytest.raises(PeerFault) as refused:
                receive(forgery.raw)
            if isinstance(refused.value, SignatureInvalid):
                reasons.add(refused.value.reason)
    assert len(reasons) == 1
