"""suds: load a WSDL, or call every operation of utility.wsdl with a UsernameToken over TLS and print what is read."""

import os
import ssl
import sys
import urllib.request

from suds import WebFault
from suds.client import Client
from suds.transport.http import HttpTransport
from suds.wsse import Security, UsernameToken

ENV = {name.removeprefix("GRIDPOST_"): value for name, value in os.environ.items() if name.startswith("GRIDPOST_")}


class TlsTransport(HttpTransport):
    """suds opens URLs with handlers; this one trusts our CA."""

    def u2handlers(self):
        context = ssl.create_default_context(cafile=ENV["CA"])
        return [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]


address = sys.argv[2] if sys.argv[1] == "load" else ENV["UTILITY"] + "?wsdl"
client = Client(
    address if ":" in address else f"file://{os.path.abspath(address)}", transport=TlsTransport(), cache=None
)
if sys.argv[1] == "load":
    sys.exit(0 if client.sd[0].ports else 1)
security = Security()
security.tokens.append(UsernameToken(ENV["PARTNER"], ENV["PASSWORD"]))
client.set_options(wsse=security)


def call(name, verb, noun, read, label="", **parts):
    identity = {"Source": ENV["PARTNER"], "MessageID": f"{ENV['PARTNER']}-{label or name}"}
    header = {"Verb": verb, "Noun": noun, "Timestamp": ENV["NOW"], **identity}
    try:
        print(f"{label or name}: {read(getattr(client.service, name)(Header=header, **parts))}")
    except WebFault as fault:
        (told,) = [value for _, value in fault.fault.detail]
        print(f"{label or name}: {told.Reply.Error.code}")


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
    "mRID": own, "EndDeviceControlType": {"_ref": "3.15.0.23"}, "EndDevices": [{"mRID": ENV["IED"]}],
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
period = {"StartTime": ENV["START"], "EndTime": ENV["NOW"]}

call("QueryMeterReadings", "get", "MeterReadings", first_value, **options(usagePoint=ENV["USAGE_POINT"]))
call("RequestMeterReadings", "create", "MeterReadings", result, **options(period, meter=ENV["METER"]))
call("WithdrawMeterReadings", "cancel", "MeterReadings", result, **ids(ENV["PARTNER"] + "-RequestMeterReadings"))
call("QueryEndDeviceEvents", "get", "EndDeviceEvents",
     lambda answer: answer.Payload.EndDeviceEvents.EndDeviceEvent[0].EndDeviceEventType._ref)  # fmt: skip
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
