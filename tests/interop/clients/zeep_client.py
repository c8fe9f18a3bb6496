"""zeep: load a WSDL, or call every operation of utility.wsdl with a UsernameToken over TLS and print what is read."""

import os
import sys
import warnings

import requests
import zeep
from zeep.wsse.username import UsernameToken

warnings.simplefilter("error")
ENV = {name.removeprefix("GRIDPOST_"): value for name, value in os.environ.items() if name.startswith("GRIDPOST_")}
session = requests.Session()
session.trust_env, session.verify = False, ENV["CA"]
transport = zeep.Transport(session=session)
if sys.argv[1] == "load":
    zeep.Client(sys.argv[2], transport=transport)
    sys.exit()

client = zeep.Client(ENV["UTILITY"] + "?wsdl", UsernameToken(ENV["PARTNER"], ENV["PASSWORD"]), transport=transport)


def call(name, verb, noun, read, label="", **parts):
    identity = {"Source": ENV["PARTNER"], "MessageID": f"{ENV['PARTNER']}-{label or name}"}
    header = {"Verb": verb, "Noun": noun, "Timestamp": ENV["NOW"], **identity}
    try:
        print(f"{label or name}: {read(client.service[name](Header=header, **parts))}")
    except zeep.exceptions.Fault as fault:
        (detail,) = fault.detail
        told = client.get_element(detail.tag).parse(detail, client.wsdl.types)
        print(f"{label or name}: {told.Reply.Error[0].code}")


def options(period=None, **values):
    return {"Request": (period or {}) | {"Option": [{"name": name, "value": value} for name, value in values.items()]}}


def ids(*names):
    return {"Request": {"ID": list(names)}}


def result(answer):
    return answer.Reply.Result


def state(answer):
    return answer.Payload.EndDeviceControls.EndDeviceControl[0].Instruction.state


def first_value(answer):
    return answer.Payload.MeterReadings.MeterReading[0].IntervalBlocks[0].IntervalReadings[0].value


def unit(answer):
    return answer.Payload.MeterConfig.Meter[0].Channels.Channel[0].unit


own = ENV["PARTNER"] + "-shed"
shed = {"EndDeviceControls": {"EndDeviceControl": [{
    "mRID": own, "EndDeviceControlType": {"ref": "3.15.0.23"}, "EndDevices": [{"mRID": ENV["IED"]}],
    "Instruction": {"output": "load1"},
}]}}  # fmt: skip
channel = {
    "readingType": "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0",
    "unit": "kWh",
    "intervalSeconds": 900,
    "zone": "Etc/UTC",
}
meter = {"MeterConfig": {"Meter": [{
    "mRID": ENV["OWN_METER"], "UsagePoint": {"mRID": "UP-" + ENV["OWN_METER"]},
    "Channels": {"ied": ENV["OWN_IED"], "Channel": [channel]},
}]}}  # fmt: skip

call("QueryMeterReadings", "get", "MeterReadings", first_value, **options(usagePoint=ENV["USAGE_POINT"]))
period = {"StartTime": ENV["START"], "EndTime": ENV["NOW"]}
call("RequestMeterReadings", "create", "MeterReadings", result, **options(period, meter=ENV["METER"]))
call("WithdrawMeterReadings", "cancel", "MeterReadings", result, **ids(ENV["PARTNER"] + "-RequestMeterReadings"))
call("QueryEndDeviceEvents", "get", "EndDeviceEvents",
     lambda answer: answer.Payload.EndDeviceEvents.EndDeviceEvent[0].EndDeviceEventType.ref)  # fmt: skip
call("RequestEndDeviceControls", "create", "EndDeviceControls", state, Payload=shed)
call("QueryEndDeviceControls", "get", "EndDeviceControls", state, **ids(own))
call("ReplaceEndDeviceControls", "change", "EndDeviceControls", state, Payload=shed)
call("WithdrawEndDeviceControls", "cancel", "EndDeviceControls", state, **ids(own))
call("EnrolMeterConfig", "create", "MeterConfig", result, Payload=meter)
call("AmendMeterConfig", "change", "MeterConfig", result, Payload=meter)
call("QueryMeterConfig", "get", "MeterConfig", unit, **options(meter=ENV["METER"]))
call("ReadMailbox", "get", "Mailbox", lambda answer: answer.Payload.Mailbox.depth, **options(limit="1"))
call("CommitMailbox", "delete", "Mailbox", result, **options(upTo="0"))
call("QueryMeterReadings", "get", "MeterReadings", result, "fault", **options(usagePoint="UP-of-nobody"))
