"""The messages as Spyne models, as its manual teaches: Spyne turns each element into an object of one of these."""

from spyne import AnyXml, ComplexModel, DateTime, Decimal, Unicode, XmlAttribute

from gridpost import ns

MESSAGE_SPACE = ns.METER_READINGS_MESSAGE


def _many(model):
    return model.customize(max_occurs="unbounded")


class _Standard(ComplexModel):
    __namespace__ = ns.METER_READINGS


class _Wrapper(ComplexModel):
    __namespace__ = MESSAGE_SPACE


class _Common(ComplexModel):
    __namespace__ = ns.MESSAGE


class Property(_Common):
    _type_info = [("Name", Unicode), ("Value", Unicode)]  # noqa: RUF012


class Header(_Common):
    _type_info = [  # noqa: RUF012
        ("Verb", Unicode),
        ("Noun", Unicode),
        ("Timestamp", DateTime),
        ("Source", Unicode),
        ("MessageID", Unicode),
        ("CorrelationID", Unicode),
        ("Property", _many(Property)),
    ]


class Reference(_Standard):
    ref = XmlAttribute(Unicode)


class ReadingQuality(_Standard):
    _type_info = [("comment", Unicode), ("ReadingQualityType", Reference)]  # noqa: RUF012


class IntervalReading(_Standard):
    _type_info = [  # noqa: RUF012
        ("timeStamp", DateTime),
        ("value", Decimal),
        ("ReadingQualities", _many(ReadingQuality)),
    ]


class IntervalBlock(_Standard):
    _type_info = [("IntervalReadings", _many(IntervalReading)), ("ReadingType", Reference)]  # noqa: RUF012


class NameType(_Standard):
    name = Unicode


class Name(_Standard):
    _type_info = [("name", Unicode), ("NameType", NameType)]  # noqa: RUF012


class Meter(_Standard):
    _type_info = [("mRID", Unicode), ("Names", _many(Name))]  # noqa: RUF012


class UsagePoint(_Standard):
    mRID = Unicode


class MeterReading(_Standard):
    _type_info = [  # noqa: RUF012
        ("IntervalBlocks", _many(IntervalBlock)),
        ("Meter", Meter),
        ("UsagePoint", UsagePoint),
    ]


class MeterReadings(_Standard):
    MeterReading = _many(MeterReading)


class Payload(_Wrapper):
    MeterReadings = MeterReadings


class CreatedMeterReadings(_Wrapper):
    _type_info = [("Header", Header), ("Payload", Payload)]  # noqa: RUF012


class Reply(_Wrapper):
    Result = Unicode


class ResponsePayload(_Wrapper):
    Receipt = AnyXml


class RESPONSE(_Wrapper):
    __type_name__ = "MeterReadingsResponseMessageType"
    _type_info = [("Header", Header), ("Reply", Reply), ("Payload", ResponsePayload)]  # noqa: RUF012

    @classmethod
    def of(cls, message_id, receipt):
        header = Header(Verb="reply", Noun="MeterReadings", Source="bus", CorrelationID=message_id)
        return cls(Header=header, Reply=Reply(Result="OK"), Payload=ResponsePayload(Receipt=receipt))
