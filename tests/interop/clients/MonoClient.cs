// Mono: calls every operation of utility.wsdl over TLS, through the proxy that wsdl.exe made, and prints what is read.
// The proxy has no place for a header that the WSDL does not describe, so it proves who it is by a TLS client certificate.

using System;
using System.IO;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using System.Web.Services.Protocols;

public static class MonoClient {
    static string Env(string name) { return Environment.GetEnvironmentVariable("GRIDPOST_" + name); }

    static readonly string Partner = Env("PARTNER");

    static DateTime Time(string name) { return DateTime.Parse(Env(name)).ToUniversalTime(); }

    static HeaderType Header(VerbType verb, string noun, string name) {
        return new HeaderType {
            Verb = verb, Noun = noun, Timestamp = Time("NOW"), TimestampSpecified = true, Source = Partner,
            MessageID = Partner + "-" + name,
        };
    }

    static RequestType Option(string name, string value) {
        return new RequestType { Option = new[] { new RequestOptionType { name = name, value = value } } };
    }

    static RequestType Id(string value) { return new RequestType { ID = new[] { value } }; }

    static EndDeviceControlsPayloadType Shed() {
        var control = new EndDeviceControl {
            mRID = Partner + "-shed", EndDeviceControlType = new EndDeviceControlTypeReference { @ref = "3.15.0.23" },
            EndDevices = new[] { new ControlDevice { mRID = Env("IED") } }, Instruction = new Instruction { output = "load1" },
        };
        return new EndDeviceControlsPayloadType { EndDeviceControls = new EndDeviceControls { EndDeviceControl = new[] { control } } };
    }

    static MeterConfigPayloadType Meter() {
        var channel = new MeterChannel {
            readingType = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", unit = "kWh", intervalSeconds = 900, zone = "Etc/UTC",
        };
        var meter = new ConfigMeter {
            mRID = Env("OWN_METER"), UsagePoint = new ConfigUsagePoint { mRID = "UP-" + Env("OWN_METER") },
            Channels = new ChannelSet { ied = Env("OWN_IED"), Channel = new[] { channel } },
        };
        return new MeterConfigPayloadType { MeterConfig = new MeterConfig { Meter = new[] { meter } } };
    }

    static void Call(string name, Func<object> read) {
        try {
            Console.WriteLine(name + ": " + read());
        } catch (SoapException fault) {
            var codes = ((System.Xml.XmlElement) fault.Detail).GetElementsByTagName("code", "http://iec.ch/TC57/2011/schema/message");
            Console.WriteLine(name + ": " + codes[0].InnerText);
        }
    }

    static object State(EndDeviceControlsResponseMessageType answer) {
        return ((EndDeviceControls) answer.Payload.Item).EndDeviceControl[0].Instruction.state;
    }

    public static void Main() {
        var authority = new X509Certificate2(Env("CA"));
        ServicePointManager.ServerCertificateValidationCallback =
            (sender, certificate, chain, errors) => certificate.Issuer == authority.Subject;
        var port = new UtilityService { Url = Env("UTILITY") };
        port.ClientCertificates.Add(new X509Certificate2(Env("CLIENT_P12"), "changeit"));
        var own = Partner + "-shed";

        Call("QueryMeterReadings", () => {
            var answer = port.QueryMeterReadings(new GetMeterReadingsType {
                Header = Header(VerbType.get, "MeterReadings", "QueryMeterReadings"),
                Request = Option("usagePoint", Env("USAGE_POINT")),
            });
            return ((MeterReadings) answer.Payload.Item).MeterReading[0].IntervalBlocks[0].IntervalReadings[0].value;
        });
        Call("RequestMeterReadings", () => {
            var request = Option("meter", Env("METER"));
            request.StartTime = Time("START");
            request.EndTime = Time("NOW");
            request.StartTimeSpecified = request.EndTimeSpecified = true;
            return port.RequestMeterReadings(new CreateMeterReadingsType {
                Header = Header(VerbType.create, "MeterReadings", "RequestMeterReadings"), Request = request,
            }).Reply.Result;
        });
        Call("WithdrawMeterReadings", () => port.WithdrawMeterReadings(new CancelMeterReadingsType {
            Header = Header(VerbType.cancel, "MeterReadings", "WithdrawMeterReadings"),
            Request = Id(Partner + "-RequestMeterReadings"),
        }).Reply.Result);
        Call("QueryEndDeviceEvents", () => {
            var answer = port.QueryEndDeviceEvents(new GetEndDeviceEventsType {
                Header = Header(VerbType.get, "EndDeviceEvents", "QueryEndDeviceEvents"),
            });
            return ((EndDeviceEvents) answer.Payload.Item).EndDeviceEvent[0].EndDeviceEventType.@ref;
        });
        Call("RequestEndDeviceControls", () => State(port.RequestEndDeviceControls(new CreateEndDeviceControlsType {
            Header = Header(VerbType.create, "EndDeviceControls", "RequestEndDeviceControls"), Payload = Shed(),
        })));
        Call("QueryEndDeviceControls", () => State(port.QueryEndDeviceControls(new GetEndDeviceControlsType {
            Header = Header(VerbType.get, "EndDeviceControls", "QueryEndDeviceControls"), Request = Id(own),
        })));
        Call("ReplaceEndDeviceControls", () => State(port.ReplaceEndDeviceControls(new ChangeEndDeviceControlsType {
            Header = Header(VerbType.change, "EndDeviceControls", "ReplaceEndDeviceControls"), Payload = Shed(),
        })));
        Call("WithdrawEndDeviceControls", () => State(port.WithdrawEndDeviceControls(new CancelEndDeviceControlsType {
            Header = Header(VerbType.cancel, "EndDeviceControls", "WithdrawEndDeviceControls"), Request = Id(own),
        })));
        Call("EnrolMeterConfig", () => port.EnrolMeterConfig(new CreateMeterConfigType {
            Header = Header(VerbType.create, "MeterConfig", "EnrolMeterConfig"), Payload = Meter(),
        }).Reply.Result);
        Call("AmendMeterConfig", () => port.AmendMeterConfig(new ChangeMeterConfigType {
            Header = Header(VerbType.change, "MeterConfig", "AmendMeterConfig"), Payload = Meter(),
        }).Reply.Result);
        Call("QueryMeterConfig", () => {
            var answer = port.QueryMeterConfig(new GetMeterConfigType {
                Header = Header(VerbType.get, "MeterConfig", "QueryMeterConfig"), Request = Option("meter", Env("METER")),
            });
            return ((MeterConfig) answer.Payload.Item).Meter[0].Channels.Channel[0].unit;
        });
        Call("ReadMailbox", () => {
            var answer = port.ReadMailbox(new PeekMailboxType {
                Header = Header(VerbType.get, "Mailbox", "ReadMailbox"), Request = Option("limit", "1"),
            });
            return ((Mailbox) answer.Payload.Item).depth;
        });
        Call("CommitMailbox", () => port.CommitMailbox(new DequeueMailboxType {
            Header = Header(VerbType.delete, "Mailbox", "CommitMailbox"), Request = Option("upTo", "0"),
        }).Reply.Result);
        Call("fault", () => port.QueryMeterReadings(new GetMeterReadingsType {
            Header = Header(VerbType.get, "MeterReadings", "fault"), Request = Option("usagePoint", "UP-of-nobody"),
        }).Reply.Result);
    }
}
