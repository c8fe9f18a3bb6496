"""One message for a utility that reads power quality and a customer who reads billing; both verify the whole."""

from dataclasses import replace

import pytest
from encrypting import AUDITOR, CUSTOMER, STRANGER, UTILITY, X, opened_by_xmlsec, reader, secrets
from lxml import etree

from gridpost import answers, check, encrypted_readings, exchange, messages, ns, parts, schemas, testing
from gridpost.encrypted_readings import Clear
from gridpost.errors import CannotRepresent, ConfigInvalid, NotDecryptable, SchemaInvalid, SignatureInvalid
from gridpost.model import Counts, Header, Position, Readings, Receipt, Rows

NOW = testing.NOW_UTC_MS
CA = testing.ThrowawayCA()
DEVICE, OTHER = CA.issue_device("IED-1"), CA.issue_device("IED-2")
HEADER = Header("created", "EncryptedReadings", NOW, "IED-1", "message-1", sequence=7)
ENERGY = testing.channel(1)
VOLTAGE = replace(ENERGY, key=ENERGY.key._replace(stream="V", reading_type="0.2.2.12.0.1.54.0.0.0.0.0.0.0.128.0.29.0"))
AT = NOW // 1000
BILLING = Readings((testing.block(ENERGY, AT - 900, ["1.250", "0.75"]),))
QUALITY = Readings((testing.block(VOLTAGE, AT - 900, ["230.1", "229.8"]),))


def both(**changes):
    wanted = {
        "billing": Clear(BILLING, [reader(CUSTOMER, "customer"), reader(AUDITOR)], secrets(1)),
        "power-quality": Clear(QUALITY, [reader(UTILITY, "utility"), reader(AUDITOR)], secrets(2)),
    }
    return wanted | changes


def sealed(header=HEADER, signer=DEVICE, clear=None):
    return exchange.seal(encrypted_readings.encode(header, clear or both()), signer, NOW)


def verified(raw, signer=DEVICE, sender="IED-1"):
    return exchange.open_(exchange.read(raw), testing.enrolment(signer, sender, [])).message


def moved(raw, change):
    """A message whose parts were changed by `change` and that another enrolled device signed as its own."""
    element = exchange.read(raw).payload
    change(element)
    return exchange.seal(etree.tostring(element, method="c14n", exclusive=True), DEVICE, NOW)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (UTILITY, {"power-quality": QUALITY}),
        (CUSTOMER, {"billing": BILLING}),
        (AUDITOR, {"billing": BILLING, "power-quality": QUALITY}),
        (STRANGER, {}),
    ],
    ids=["utility", "customer", "auditor", "stranger"],
)
def test_each_reads_only_what_is_its_own_and_all_verify_the_whole(key, expected):
    message = verified(sealed())
    assert message.header == HEADER
    assert parts.open_parts(message, key) == expected


def test_nothing_of_the_readings_stands_in_the_clear():
    raw = sealed()
    for text in (b"1.250", b"230.1", b"UP-M1", ENERGY.key.reading_type.encode(), b"MeterReadings"):
        assert text not in raw


def test_a_message_is_its_own_canonical_form_and_follows_its_schema():
    written = encrypted_readings.encode(HEADER, both())
    element = etree.fromstring(written)
    assert etree.tostring(element, method="c14n", exclusive=True) == written
    schemas.validate(element)


def test_libxmlsec1_deciphers_a_part_of_a_sealed_message_to_what_the_schema_has():
    element = exchange.read(sealed()).payload
    _, billing = element.findall(f".//{X}EncryptedData")[0].getparent()
    part = opened_by_xmlsec(billing, CUSTOMER)
    schemas.validate(part)
    assert [(child.tag.rpartition("}")[2], child.text) for child in part][:3] == [
        ("kind", "billing"), ("source", "IED-1"), ("messageID", "message-1"),
    ]  # fmt: skip
    assert messages.decode_readings(part[3]) == BILLING


def test_a_bus_takes_it_without_reading_it():
    message = verified(sealed())
    assert check.check(message, [], NOW, None) == Rows()


def test_its_receipt_is_read_by_the_device():
    opened = exchange.open_(exchange.read(sealed()), testing.enrolment(DEVICE, "IED-1", []))
    named = ("message-1", "IED-1", opened.content_digest, opened.references)
    receipt = Receipt(*named, NOW, Position(0, 1), b"r" * 32, Counts(0, 0, 0))
    written = answers.encode_receipt(receipt, "EncryptedReadings", "bus")
    assert answers.decode(etree.fromstring(written)) == receipt


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_a_changed_part_is_found_by_a_reader_who_cannot_read_it():
    raw = sealed()
    at = raw.rindex(b"</CipherValue>") - 30  # inside power quality
    letter = b"A" if raw[at : at + 1] != b"A" else b"B"
    with pytest.raises(SignatureInvalid):
        verified(raw[:at] + letter + raw[at + 1 :])


def swap_content(element):
    first, second = element.findall(f".//{X}EncryptedData/{X}CipherData/{X}CipherValue")
    first.text, second.text = second.text, first.text


def swap_parts(element):
    """Each EncryptedData under the other's kind: for the auditor both still decipher."""
    first, second = element.findall(f".//{{{ns.ENCRYPTED_READINGS}}}kind")
    first.text, second.text = second.text, first.text


def rename(element):
    element.find(f".//{{{ns.ENCRYPTED_READINGS}}}kind").text = "events"


@pytest.mark.parametrize("change", [swap_content, swap_parts, rename])
def test_parts_that_changed_places_do_not_open(change):
    message = verified(moved(sealed(), change))
    with pytest.raises(NotDecryptable):
        parts.open_parts(message, AUDITOR)


def test_the_part_of_another_message_does_not_open():
    other = exchange.read(sealed(replace(HEADER, message_id="message-2"))).payload

    def put_in(element):
        ours, theirs = (one.find(f".//{{{ns.ENCRYPTED_READINGS}}}EncryptedPart") for one in (element, other))
        ours.getparent().replace(ours, theirs)

    message = verified(moved(sealed(), put_in))
    assert parts.open_parts(message, UTILITY) == {"power-quality": QUALITY}  # its part is still this message's
    with pytest.raises(NotDecryptable):
        parts.open_parts(message, CUSTOMER)


def test_readings_of_one_device_signed_by_another_as_its_own_do_not_open():
    element = exchange.read(sealed()).payload
    element.find(f".//{{{ns.MESSAGE}}}Source").text = "IED-2"
    stolen = exchange.seal(etree.tostring(element, method="c14n", exclusive=True), OTHER, NOW)
    message = verified(stolen, OTHER, "IED-2")
    with pytest.raises(NotDecryptable):
        parts.open_parts(message, CUSTOMER)


@pytest.mark.parametrize(
    "content",
    [
        b"not xml",
        b'<!DOCTYPE x [<!ENTITY e "e">]><x>&e;</x>',
        b'<MeterReadings xmlns="http://iec.ch/TC57/2011/MeterReadings#"></MeterReadings>',
        f'<Part xmlns="{ns.ENCRYPTED_READINGS}"><kind>billing</kind></Part>'.encode(),
    ],
)
def test_what_deciphers_to_something_else_is_told_alike(monkeypatch, content):
    monkeypatch.setattr(encrypted_readings, "_part", lambda *_: content)
    message = verified(sealed())
    with pytest.raises(NotDecryptable) as caught:
        parts.open_parts(message, CUSTOMER)
    assert (str(caught.value), caught.value.detail, caught.value.items) == (str(NotDecryptable()), "", ())


def test_two_parts_of_one_kind_are_refused():
    def rename_second(element):
        element.findall(f".//{{{ns.ENCRYPTED_READINGS}}}kind")[1].text = "billing"

    with pytest.raises(SchemaInvalid, match="two parts of one kind"):
        verified(moved(sealed(), rename_second))


def test_a_part_in_the_clear_is_refused():
    def lay_open(element):
        data = element.find(f".//{X}EncryptedData")
        data.getparent().replace(data, etree.fromstring(encrypted_readings._part(HEADER, "billing", BILLING)))

    with pytest.raises(SchemaInvalid):
        verified(moved(sealed(), lay_open))


@pytest.mark.parametrize("count", [0, 5])
def test_so_many_parts_cannot_be(count):
    with pytest.raises(ConfigInvalid, match=f"{count} parts; a message has 1 to 4"):
        encrypted_readings.encode(HEADER, {f"kind-{n}": both()["billing"] for n in range(count)})


def test_a_text_that_xml_cannot_hold_is_refused_before_it_is_hidden():
    bad = replace(ENERGY, key=ENERGY.key._replace(stream="\1"))
    clear = both(billing=Clear(Readings((testing.block(bad, AT, ["1"]),)), [reader(CUSTOMER)], secrets(1)))
    with pytest.raises(CannotRepresent):
        encrypted_readings.encode(HEADER, clear)


def test_the_largest_message_there_may_be_is_within_every_limit():
    readers = [reader(testing.ec.derive_private_key(n, testing.ec.SECP256R1())) for n in range(1, 17)]
    clear = {f"kind-{n}": Clear(BILLING, readers, secrets(n + 1)) for n in range(4)}
    assert len(verified(sealed(clear=clear)).parts) == 4
