// Axis 1.4: calls every operation of utility.wsdl with a UsernameToken over TLS, through the stub that WSDL2Java made, and
// prints what is read.

import _1.channels.gridpost.*;
import _1.control.gridpost.Instruction;
import _1.mailbox.gridpost.*;
import _1.utility.gridpost.*;
import ch.iec.TC57._2011.EndDeviceControls.*;
import ch.iec.TC57._2011.EndDeviceControlsMessage.*;
import ch.iec.TC57._2011.EndDeviceEventsMessage.*;
import ch.iec.TC57._2011.MeterConfig.*;
import ch.iec.TC57._2011.MeterConfigMessage.*;
import ch.iec.TC57._2011.MeterReadingsMessage.*;
import ch.iec.TC57._2011.schema.message.*;
import java.net.URL;
import java.util.Calendar;
import java.util.GregorianCalendar;
import java.util.TimeZone;
import java.util.concurrent.Callable;
import org.apache.axis.message.SOAPHeaderElement;

public class AxisClient {
    static final String WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    static final String PARTNER = env("PARTNER");

    static String env(String name) {
        return System.getenv("GRIDPOST_" + name);
    }

    static Calendar time(String name) {
        Calendar time = new GregorianCalendar(TimeZone.getTimeZone("UTC"));
        time.setTimeInMillis(java.time.Instant.parse(env(name)).toEpochMilli());
        return time;
    }

    static HeaderType header(String verb, String noun, String name) {
        HeaderType header = new HeaderType();
        header.setVerb(VerbType.fromString(verb));
        header.setNoun(noun);
        header.setTimestamp(time("NOW"));
        header.setSource(PARTNER);
        header.setMessageID(PARTNER + "-" + name);
        return header;
    }

    static RequestType option(String name, String value) {
        RequestOptionType option = new RequestOptionType();
        option.setName(name);
        option.setValue(value);
        RequestType request = new RequestType();
        request.setOption(new RequestOptionType[] {option});
        return request;
    }

    static RequestType id(String value) {
        RequestType request = new RequestType();
        request.setID(new String[] {value});
        return request;
    }

    static EndDeviceControlsPayloadType shed() {
        EndDeviceControl control = new EndDeviceControl();
        control.setMRID(PARTNER + "-shed");
        control.setEndDeviceControlType(new EndDeviceControlTypeReference());
        control.getEndDeviceControlType().setRef("3.15.0.23");
        ControlDevice device = new ControlDevice();
        device.setMRID(env("IED"));
        control.setEndDevices(new ControlDevice[] {device});
        control.setInstruction(new Instruction());
        control.getInstruction().setOutput("load1");
        EndDeviceControlsPayloadType payload = new EndDeviceControlsPayloadType();
        payload.setEndDeviceControls(new EndDeviceControls());
        payload.getEndDeviceControls().setEndDeviceControl(new EndDeviceControl[] {control});
        return payload;
    }

    static MeterConfigPayloadType meter() {
        MeterChannel channel = new MeterChannel();
        channel.setReadingType("0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0");
        channel.setUnit("kWh");
        channel.setIntervalSeconds(900);
        channel.setZone("Etc/UTC");
        ConfigMeter meter = new ConfigMeter();
        meter.setMRID(env("OWN_METER"));
        meter.setUsagePoint(new ConfigUsagePoint());
        meter.getUsagePoint().setMRID("UP-" + env("OWN_METER"));
        meter.setChannels(new ChannelSet());
        meter.getChannels().setIed(env("OWN_IED"));
        meter.getChannels().setChannel(new MeterChannel[] {channel});
        MeterConfigPayloadType payload = new MeterConfigPayloadType();
        payload.setMeterConfig(new ConfigMeter[] {meter});
        return payload;
    }

    static void call(String name, Callable<Object> read) throws Exception {
        Object told = read.call();
        System.out.println(name + ": " + told);
    }

    static String state(EndDeviceControlsResponseMessageType answer) {
        return answer.getPayload().getEndDeviceControls().getEndDeviceControl(0).getInstruction().getState();
    }

    public static void main(String[] arguments) throws Exception {
        UtilityPort port = new UtilityServiceLocator().getUtilityPort(new URL(env("UTILITY")));
        SOAPHeaderElement security = new SOAPHeaderElement(WSSE, "Security");
        var token = security.addChildElement("UsernameToken", "wsse", WSSE);
        token.addChildElement("Username", "wsse", WSSE).addTextNode(PARTNER);
        token.addChildElement("Password", "wsse", WSSE).addTextNode(env("PASSWORD"));
        security.setActor(null);
        ((org.apache.axis.client.Stub) port).setHeader(security);
        String own = PARTNER + "-shed";

        call("QueryMeterReadings", () -> {
            GetMeterReadingsType request = new GetMeterReadingsType();
            request.setHeader(header("get", "MeterReadings", "QueryMeterReadings"));
            request.setRequest(option("usagePoint", env("USAGE_POINT")));
            var reading = port.queryMeterReadings(request).getPayload().getMeterReadings().getMeterReading(0);
            return reading.getIntervalBlocks(0).getIntervalReadings(0).getValue();
        });
        call("RequestMeterReadings", () -> {
            CreateMeterReadingsType request = new CreateMeterReadingsType();
            request.setHeader(header("create", "MeterReadings", "RequestMeterReadings"));
            request.setRequest(option("meter", env("METER")));
            request.getRequest().setStartTime(time("START"));
            request.getRequest().setEndTime(time("NOW"));
            return port.requestMeterReadings(request).getReply().getResult();
        });
        call("WithdrawMeterReadings", () -> {
            CancelMeterReadingsType request = new CancelMeterReadingsType();
            request.setHeader(header("cancel", "MeterReadings", "WithdrawMeterReadings"));
            request.setRequest(id(PARTNER + "-RequestMeterReadings"));
            return port.withdrawMeterReadings(request).getReply().getResult();
        });
        call("QueryEndDeviceEvents", () -> {
            GetEndDeviceEventsType request = new GetEndDeviceEventsType();
            request.setHeader(header("get", "EndDeviceEvents", "QueryEndDeviceEvents"));
            var events = port.queryEndDeviceEvents(request).getPayload().getEndDeviceEvents();
            return events.getEndDeviceEvent(0).getEndDeviceEventType().getRef();
        });
        call("RequestEndDeviceControls", () -> {
            CreateEndDeviceControlsType request = new CreateEndDeviceControlsType();
            request.setHeader(header("create", "EndDeviceControls", "RequestEndDeviceControls"));
            request.setPayload(shed());
            return state(port.requestEndDeviceControls(request));
        });
        call("QueryEndDeviceControls", () -> {
            GetEndDeviceControlsType request = new GetEndDeviceControlsType();
            request.setHeader(header("get", "EndDeviceControls", "QueryEndDeviceControls"));
            request.setRequest(id(own));
            return state(port.queryEndDeviceControls(request));
        });
        call("ReplaceEndDeviceControls", () -> {
            ChangeEndDeviceControlsType request = new ChangeEndDeviceControlsType();
            request.setHeader(header("change", "EndDeviceControls", "ReplaceEndDeviceControls"));
            request.setPayload(shed());
            return state(port.replaceEndDeviceControls(request));
        });
        call("WithdrawEndDeviceControls", () -> {
            CancelEndDeviceControlsType request = new CancelEndDeviceControlsType();
            request.setHeader(header("cancel", "EndDeviceControls", "WithdrawEndDeviceControls"));
            request.setRequest(id(own));
            return state(port.withdrawEndDeviceControls(request));
        });
        call("EnrolMeterConfig", () -> {
            CreateMeterConfigType request = new CreateMeterConfigType();
            request.setHeader(header("create", "MeterConfig", "EnrolMeterConfig"));
            request.setPayload(meter());
            return port.enrolMeterConfig(request).getReply().getResult();
        });
        call("AmendMeterConfig", () -> {
            ChangeMeterConfigType request = new ChangeMeterConfigType();
            request.setHeader(header("change", "MeterConfig", "AmendMeterConfig"));
            request.setPayload(meter());
            return port.amendMeterConfig(request).getReply().getResult();
        });
        call("QueryMeterConfig", () -> {
            GetMeterConfigType request = new GetMeterConfigType();
            request.setHeader(header("get", "MeterConfig", "QueryMeterConfig"));
            request.setRequest(option("meter", env("METER")));
            return port.queryMeterConfig(request).getPayload().getMeterConfig()[0].getChannels().getChannel(0).getUnit();
        });
        call("ReadMailbox", () -> {
            PeekMailboxType request = new PeekMailboxType();
            request.setHeader(header("get", "Mailbox", "ReadMailbox"));
            request.setRequest(option("limit", "1"));
            return port.readMailbox(request).getPayload().getMailbox().getDepth();
        });
        call("CommitMailbox", () -> {
            DequeueMailboxType request = new DequeueMailboxType();
            request.setHeader(header("delete", "Mailbox", "CommitMailbox"));
            request.setRequest(option("upTo", "0"));
            return port.commitMailbox(request).getReply().getResult();
        });
        call("fault", () -> {
            GetMeterReadingsType request = new GetMeterReadingsType();
            request.setHeader(header("get", "MeterReadings", "fault"));
            request.setRequest(option("usagePoint", "UP-of-nobody"));
            try {
                return port.queryMeterReadings(request).getReply().getResult();
            } catch (MeterReadingsFaultMessageType fault) {
                return fault.getReply().getError(0).getCode();
            }
        });
    }
}
