"""xsdata: calls every operation of utility.wsdl through the classes it generated, over TLS, and prints what is read.

Its client sends no SOAP header that the WSDL does not describe, so it proves who it is by a TLS client certificate.
"""

import os
from typing import get_type_hints

import requests
from utility_xsdata import utility_wsdl as services
from utility_xsdata.channels import Channels, MeterChannel
from utility_xsdata.control import Instruction
from utility_xsdata.end_device_controls import (
    ControlDevice,
    EndDeviceControl,
    EndDeviceControls,
    EndDeviceControlTypeReference,
)
from utility_xsdata.end_device_controls_message import EndDeviceControlsPayloadType
from utility_xsdata.message import HeaderType, RequestOptionType, RequestType, VerbType
from utility_xsdata.meter_config import ConfigMeter, ConfigUsagePoint, MeterConfig
from utility_xsdata.meter_config_message import MeterConfigPayloadType
from xsdata.formats.dataclass.client import Client, Config
from xsdata.formats.dataclass.transports import DefaultTransport
from xsdata.models.datatype import XmlDateTime

ENV = {name.removeprefix("GRIDPOST_"): value for name, value in os.environ.items() if name.startswith("GRIDPOST_")}


class TlsTransport(DefaultTransport):
    """SOAP 1.1 sends faults with status 500; they are answers too."""

    def handle_response(self, response):
        return response.content


session = requests.Session()
session.trust_env, session.verify, session.cert = False, ENV["CA"], ENV["CLIENT_PEM"]


def call(name, verb, noun, read, label="", **parts):
    service = getattr(services, f"UtilityPort{name}")
    config = Config.from_service(service, location=ENV["UTILITY"])
    client = Client(config, transport=TlsTransport(session=session))
    header = HeaderType(
        verb=VerbType(verb), noun=noun, timestamp=XmlDateTime.from_string(ENV["NOW"]),
        source=ENV["PARTNER"], message_id=f"{ENV['PARTNER']}-{label or name}",
    )  # fmt: skip
    ((field, message),) = get_type_hints(service.input.Body, vars(services)).items()
    envelope = service.input(body=service.input.Body(**{field: message(header=header, **parts)}))
    answer = client.send(envelope).body
    if answer.fault is not None:
        (told,) = [one for one in vars(answer.fault.detail).values() if one is not None]
        print(f"{label or name}: {told.reply.error[0].code}")
    else:
        (told,) = [one for key, one in vars(answer).items() if key != "fault"]
        print(f"{label or name}: {read(told)}")


def options(**values):
    return {"request": RequestType(option=[RequestOptionType(name=key, value=one) for key, one in values.items()])}


def ids(*names):
    return {"request": RequestType(id=list(names))}


def result(answer):
    return answer.reply.result.value


def state(answer):
    return answer.payload.end_device_controls.end_device_control[0].instruction.state


def first_value(answer):
    return answer.payload.meter_readings.meter_reading[0].interval_blocks[0].interval_readings[0].value


def unit(answer):
    return answer.payload.meter_config.meter[0].channels.channel[0].unit


own = ENV["PARTNER"] + "-shed"
shed = EndDeviceControl(
    m_rid=own, end_device_control_type=EndDeviceControlTypeReference(ref="3.15.0.23"),
    end_devices=[ControlDevice(m_rid=ENV["IED"])], instruction=Instruction(output="load1"),
)  # fmt: skip
controls = {"payload": EndDeviceControlsPayloadType(end_device_controls=EndDeviceControls(end_device_control=[shed]))}
channel = MeterChannel(
    reading_type="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", unit="kWh", interval_seconds=900, zone="Etc/UTC"
)
meter = ConfigMeter(
    m_rid=ENV["OWN_METER"], usage_point=ConfigUsagePoint(m_rid="UP-" + ENV["OWN_METER"]),
    channels=Channels(ied=ENV["OWN_IED"], channel=[channel]),
)  # fmt: skip
meters = {"payload": MeterConfigPayloadType(meter_config=MeterConfig(meter=[meter]))}
period = options(meter=ENV["METER"])
period["request"].start_time = XmlDateTime.from_string(ENV["START"])
period["request"].end_time = XmlDateTime.from_string(ENV["NOW"])

call("QueryMeterReadings", "get", "MeterReadings", first_value, **options(usagePoint=ENV["USAGE_POINT"]))
call("RequestMeterReadings", "create", "MeterReadings", result, **period)
call("WithdrawMeterReadings", "cancel", "MeterReadings", result, **ids(ENV["PARTNER"] + "-RequestMeterReadings"))
call("QueryEndDeviceEvents", "get", "EndDeviceEvents",
     lambda answer: answer.payload.end_device_events.end_device_event[0].end_device_event_type.ref)  # fmt: skip
call("RequestEndDeviceControls", "create", "EndDeviceControls", state, **controls)
call("QueryEndDeviceControls", "get", "EndDeviceControls", state, **ids(own))
call("ReplaceEndDeviceControls", "change", "EndDeviceControls", state, **controls)
call("WithdrawEndDeviceControls", "cancel", "EndDeviceControls", state, **ids(own))
call("EnrolMeterConfig", "create", "MeterConfig", result, **meters)
call("AmendMeterConfig", "change", "MeterConfig", result, **meters)
call("QueryMeterConfig", "get", "MeterConfig", unit, **options(meter=ENV["METER"]))
call("ReadMailbox", "get", "Mailbox", lambda answer: answer.payload.mailbox.depth, **options(limit="1"))
call("CommitMailbox", "delete", "Mailbox", result, **options(upTo="0"))
call("QueryMeterReadings", "get", "MeterReadings", result, "fault", **options(usagePoint="UP-of-nobody"))
