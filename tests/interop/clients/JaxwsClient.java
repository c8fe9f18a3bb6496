// JAX-WS RI: calls every operation of utility.wsdl with a UsernameToken over TLS, through the classes that wsimport made,
// and prints what is read.

import ch.iec.tc57._2011.enddevicecontrols_.*;
import ch.iec.tc57._2011.enddevicecontrolsmessage.*;
import ch.iec.tc57._2011.enddeviceeventsmessage.*;
import ch.iec.tc57._2011.meterconfig_.*;
import ch.iec.tc57._2011.meterconfigmessage.*;
import ch.iec.tc57._2011.meterreadingsmessage.*;
import ch.iec.tc57._2011.schema.message.*;
import gridpost.channels._1.*;
import gridpost.control._1.Instruction;
import gridpost.mailbox._1.*;
import gridpost.utility._1.*;
import java.net.URI;
import java.util.Set;
import java.util.concurrent.Callable;
import javax.xml.datatype.DatatypeFactory;
import javax.xml.datatype.XMLGregorianCalendar;
import javax.xml.namespace.QName;
import javax.xml.soap.SOAPElement;
import javax.xml.ws.Binding;
import javax.xml.ws.BindingProvider;
import javax.xml.ws.handler.Handler;
import javax.xml.ws.handler.MessageContext;
import javax.xml.ws.handler.soap.SOAPHandler;
import javax.xml.ws.handler.soap.SOAPMessageContext;

public class JaxwsClient {
    static final String WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    static final String PARTNER = env("PARTNER");

    static String env(String name) {
        return System.getenv("GRIDPOST_" + name);
    }

    /** Puts the UsernameToken into the header of each request. */
    static class Token implements SOAPHandler<SOAPMessageContext> {
        public boolean handleMessage(SOAPMessageContext context) {
            try {
                if ((Boolean) context.get(MessageContext.MESSAGE_OUTBOUND_PROPERTY)) {
                    var envelope = context.getMessage().getSOAPPart().getEnvelope();
                    var header = envelope.getHeader() == null ? envelope.addHeader() : envelope.getHeader();
                    SOAPElement token = header.addChildElement("Security", "wsse", WSSE).addChildElement("UsernameToken", "wsse");
                    token.addChildElement("Username", "wsse").addTextNode(PARTNER);
                    token.addChildElement("Password", "wsse").addTextNode(env("PASSWORD"));
                }
                return true;
            } catch (javax.xml.soap.SOAPException error) {
                throw new RuntimeException(error);
            }
        }

        public boolean handleFault(SOAPMessageContext context) {
            return true;
        }

        public void close(MessageContext context) {}

        public Set<QName> getHeaders() {
            return Set.of();
        }
    }

    static XMLGregorianCalendar time(String name) throws Exception {
        return DatatypeFactory.newInstance().newXMLGregorianCalendar(env(name));
    }

    static HeaderType header(String verb, String noun, String name) throws Exception {
        HeaderType header = new HeaderType();
        header.setVerb(VerbType.fromValue(verb));
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
        request.getOption().add(option);
        return request;
    }

    static RequestType id(String value) {
        RequestType request = new RequestType();
        request.getID().add(value);
        return request;
    }

    static EndDeviceControlsPayloadType shed() {
        EndDeviceControl control = new EndDeviceControl();
        control.setMRID(PARTNER + "-shed");
        control.setEndDeviceControlType(new EndDeviceControlTypeReference());
        control.getEndDeviceControlType().setRef("3.15.0.23");
        ControlDevice device = new ControlDevice();
        device.setMRID(env("IED"));
        control.getEndDevices().add(device);
        control.setInstruction(new Instruction());
        control.getInstruction().setOutput("load1");
        EndDeviceControlsPayloadType payload = new EndDeviceControlsPayloadType();
        payload.setEndDeviceControls(new EndDeviceControls());
        payload.getEndDeviceControls().getEndDeviceControl().add(control);
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
        meter.getChannels().getChannel().add(channel);
        MeterConfigPayloadType payload = new MeterConfigPayloadType();
        payload.setMeterConfig(new MeterConfig());
        payload.getMeterConfig().getMeter().add(meter);
        return payload;
    }

    static void call(String name, Callable<Object> read) throws Exception {
        Object told = read.call();
        System.out.println(name + ": " + told);
    }

    static String state(EndDeviceControlsResponseMessageType answer) {
        return answer.getPayload().getEndDeviceControls().getEndDeviceControl().get(0).getInstruction().getState();
    }

    public static void main(String[] arguments) throws Exception {
        UtilityPort port = new UtilityService(URI.create(env("UTILITY") + "?wsdl").toURL()).getUtilityPort();
        Binding binding = ((BindingProvider) port).getBinding();
        binding.setHandlerChain(java.util.List.<Handler>of(new Token()));
        String own = PARTNER + "-shed";

        call("QueryMeterReadings", () -> {
            GetMeterReadingsType request = new GetMeterReadingsType();
            request.setHeader(header("get", "MeterReadings", "QueryMeterReadings"));
            request.setRequest(option("usagePoint", env("USAGE_POINT")));
            var reading = port.queryMeterReadings(request).getPayload().getMeterReadings().getMeterReading().get(0);
            return reading.getIntervalBlocks().get(0).getIntervalReadings().get(0).getValue();
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
            return events.getEndDeviceEvent().get(0).getEndDeviceEventType().getRef();
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
            var meter = port.queryMeterConfig(request).getPayload().getMeterConfig().getMeter().get(0);
            return meter.getChannels().getChannel().get(0).getUnit();
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
            } catch (MeterReadingsFault fault) {
                return fault.getFaultInfo().getReply().getError().get(0).getCode();
            }
        });
    }
}
