"""Which readings `gridpost-ied seal --for` puts into whose part, and what it refuses."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gridpost.ied_soap_client import sealing
from lxml import etree

from gridpost import exchange, parts, testing
from gridpost.errors import ConfigInvalid, FileInvalid
from gridpost.model import Header, Readings, RegisterReading

HEADER = Header("created", "EncryptedReadings", testing.NOW_UTC_MS, "IED-7", "m-1")
AT = testing.NOW_UTC_MS // 1000
ENERGY = testing.channel(1)
DEMAND, VOLTAGE, KIND_164 = (
    testing.channel(number, key=ENERGY.key._replace(stream=f"S{number}", reading_type=reading_type))
    for number, reading_type in enumerate(
        (
            "0.2.2.4.1.1.8.0.0.0.0.0.0.0.0.3.38.0",
            "0.2.2.12.0.1.54.0.0.0.0.0.0.0.128.0.29.0",
            "0.0.2.9.15.2.164.0.0.0.0.0.0.0.0.3.73.0",
        )
    )
)
STAND = RegisterReading(ENERGY.key._replace(reading_type="0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"), AT, "17.5")
BILLING = Readings(tuple(testing.block(one, AT, ["1"]) for one in (ENERGY, DEMAND)), (STAND,))
QUALITY = Readings(tuple(testing.block(one, AT, ["2"]) for one in (VOLTAGE, KIND_164)))
ALL = Readings(BILLING.blocks + QUALITY.blocks, BILLING.registers)


@pytest.fixture
def keys(tmp_path):
    made = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("utility", "customer")}
    for name, key in made.items():
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        (tmp_path / f"{name}.pem").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return made


def opened(body, key):
    device = testing.ThrowawayCA().issue_device("IED-7")
    raw = exchange.seal(body, device, testing.NOW_UTC_MS)
    return parts.open_parts(exchange.open_(exchange.read(raw), testing.enrolment(device, "IED-7", [])).message, key)


def test_energy_and_demand_are_billing_and_all_else_is_power_quality(tmp_path, keys):
    readers = [f"{tmp_path}/utility.pem=power-quality", f"{tmp_path}/customer.pem=billing"]
    form = sealing.form_for([sealing.wanted(text) for text in readers])
    body = form.encode(HEADER, ALL)
    assert form.noun == "EncryptedReadings"
    assert opened(body, keys["customer"]) == {"billing": BILLING}
    assert opened(body, keys["utility"]) == {"power-quality": QUALITY}
    names = [node.get("Recipient") for node in etree.fromstring(body).iter("{*}EncryptedKey")]
    assert names == ["customer", "utility"]


def test_each_part_and_each_message_has_secrets_of_its_own(tmp_path, keys):
    form = sealing.form_for([sealing.wanted(f"{tmp_path}/utility.pem=billing,power-quality")])
    made = [etree.fromstring(form.encode(HEADER, ALL)) for _ in range(2)]
    for path in ("{*}CipherValue", "{*}PublicKey"):
        texts = [node.text for one in made for node in one.iter(path)]
        assert len(set(texts)) == len(texts) >= 4
    data = [node for one in made for node in one.iter("{*}EncryptedData")]
    assert len({one.find("{*}CipherData/{*}CipherValue").text[:16] for one in data}) == 4, "a nonce came twice"


def test_without_readers_it_is_in_the_clear():
    assert sealing.form_for([]).noun == "MeterReadings"


def test_readings_that_nobody_could_read_are_refused(tmp_path, keys):
    form = sealing.form_for([sealing.wanted(f"{tmp_path}/customer.pem=billing")])
    with pytest.raises(ConfigInvalid, match="power-quality readings, and no reader"):
        form.encode(HEADER, ALL)
    assert opened(form.encode(HEADER, BILLING), keys["customer"]) == {"billing": BILLING}


def test_a_reading_type_whose_kind_cannot_be_told_is_in_nobodys_part(tmp_path, keys):
    odd = testing.channel(9, key=ENERGY.key._replace(reading_type="1-0:1.8.0"))
    form = sealing.form_for([sealing.wanted(f"{tmp_path}/customer.pem=billing,power-quality")])
    with pytest.raises(FileInvalid, match="18 numbers"):
        form.encode(HEADER, Readings((testing.block(odd, AT, ["1"]),)))


@pytest.mark.parametrize("text", ["reader.pem", "=billing", "reader.pem=", "reader.pem=events", "a=billing;commands"])
def test_another_form_of_for_is_refused(text):
    with pytest.raises(ConfigInvalid, match="FILE=KIND"):
        sealing.wanted(text)


def test_a_reader_whose_file_is_missing_or_no_key_is_refused(tmp_path):
    (tmp_path / "no.pem").write_text("no")
    for name, reason in (("none.pem", "cannot be read"), ("no.pem", "in PEM")):
        with pytest.raises(ConfigInvalid, match=reason):
            sealing.form_for([sealing.wanted(f"{tmp_path}/{name}=billing")])
