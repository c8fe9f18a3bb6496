import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import javax.xml.XMLConstants;
import javax.xml.crypto.MarshalException;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.Transform;
import javax.xml.crypto.dsig.XMLSignature;
import javax.xml.crypto.dsig.XMLSignatureException;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import javax.xml.parsers.DocumentBuilder;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.parsers.ParserConfigurationException;
import javax.xml.transform.dom.DOMSource;
import javax.xml.validation.Schema;
import javax.xml.validation.SchemaFactory;
import javax.xml.validation.Validator;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.xml.sax.SAXException;

/** Bytes in, a genuine and checked message out, or Refused: parse, signer, signature, window, schema, channels and grid. */
final class Messages {
    private static final String SOAP = "http://schemas.xmlsoap.org/soap/envelope/";
    private static final String WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    private static final String WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
    private static final String PUSH = "http://iec.ch/TC57/2011/MeterReadingsMessage";
    private static final String COMMON = "http://iec.ch/TC57/2011/schema/message";
    private static final String READINGS = "http://iec.ch/TC57/2011/MeterReadings#";
    private static final String EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#";
    private static final Set<String> SIGNATURES = Set.of("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512");
    private static final long OLDEST_MS = 15 * 60_000, AHEAD_MS = 60_000;
    private static final int DAY_S = 86_400;

    private final Enrolled enrolled;
    private final ThreadLocal<DocumentBuilder> parsers = ThreadLocal.withInitial(Messages::parser);
    private final ThreadLocal<Validator> validators;
    private final ThreadLocal<XMLSignatureFactory> signatures =
            ThreadLocal.withInitial(() -> XMLSignatureFactory.getInstance("DOM"));

    Messages(Enrolled enrolled, Path schemas) throws SAXException {
        this.enrolled = enrolled;
        File file = schemas.resolve("meter_readings_message.xsd").toFile();
        Schema schema = SchemaFactory.newInstance(XMLConstants.W3C_XML_SCHEMA_NS_URI).newSchema(file);
        validators = ThreadLocal.withInitial(schema::newValidator);
    }

    Message open(byte[] raw) throws Refused {
        try {
            Element envelope = parsers.get().parse(new ByteArrayInputStream(raw)).getDocumentElement();
            Element security = only(only(envelope, SOAP, "Header"), WSSE, "Security");
            Element body = only(envelope, SOAP, "Body"), timestamp = only(security, WSU, "Timestamp");
            Enrolled.Device device = enrolled.signer(base64(only(security, WSSE, "BinarySecurityToken")));
            if (device == null) {
                throw new Refused("signature-invalid");
            }
            XMLSignature signature = verify(only(security, XMLSignature.XMLNS, "Signature"), device, body, timestamp);
            Element payload = only(body, PUSH, "CreatedMeterReadings");
            validators.get().validate(new DOMSource(payload));
            return read(payload, device, signature, milliseconds(text(only(timestamp, WSU, "Created"))), raw);
        } catch (SAXException | MarshalException | XMLSignatureException | DateTimeException | IllegalArgumentException bad) {
            throw new Refused("malformed");
        } catch (IOException | GeneralSecurityException ours) {
            throw new IllegalStateException(ours);
        }
    }

    /** The signature covers Body and Timestamp by exclusive canonicalisation, and its key is the enrolled one. */
    private XMLSignature verify(Element element, Enrolled.Device device, Element body, Element timestamp)
            throws MarshalException, XMLSignatureException, Refused, GeneralSecurityException {
        device.certificate().checkValidity();
        DOMValidateContext context = new DOMValidateContext(device.certificate().getPublicKey(), element);
        context.setIdAttributeNS(body, WSU, "Id");
        context.setIdAttributeNS(timestamp, WSU, "Id");
        XMLSignature signature = signatures.get().unmarshalXMLSignature(context);
        List<Reference> references = signature.getSignedInfo().getReferences();
        Set<String> covered = Set.of("#" + body.getAttributeNS(WSU, "Id"), "#" + timestamp.getAttributeNS(WSU, "Id"));
        boolean plain = references.size() == 2 && SIGNATURES.contains(signature.getSignedInfo().getSignatureMethod().getAlgorithm());
        for (Reference one : references) {
            List<Transform> transforms = one.getTransforms();
            plain &= covered.contains(one.getURI()) && transforms.size() == 1
                    && transforms.get(0).getAlgorithm().equals(EXCLUSIVE);
        }
        if (!plain || references.get(0).getURI().equals(references.get(1).getURI()) || !signature.validate(context)) {
            throw new Refused("signature-invalid");
        }
        return signature;
    }

    private Message read(Element payload, Enrolled.Device device, XMLSignature signature, long createdMs, byte[] raw)
            throws Refused {
        Element header = first(payload);
        String sender = device.serial(), messageId = named(header, COMMON, "MessageID");
        if (!named(header, COMMON, "Verb").equals("created") || !named(header, COMMON, "Noun").equals("MeterReadings")
                || named(header, COMMON, "Timestamp").isEmpty() || messageId.isEmpty()) {
            throw new Refused("header-incomplete");
        }
        if (!named(header, COMMON, "Source").equals(sender)) {
            throw new Refused("source-mismatch");
        }
        long now = System.currentTimeMillis();
        if (createdMs < now - OLDEST_MS || createdMs > now + AHEAD_MS) {
            throw new Refused("message-stale");
        }
        List<Reference> references = signature.getSignedInfo().getReferences();
        List<String> echoed = new ArrayList<>(2);
        byte[] content = null;
        String bodyUri = "#" + ((Element) payload.getParentNode()).getAttributeNS(WSU, "Id");
        for (Reference one : references) {
            echoed.add(one.getURI() + " " + Base64.getEncoder().encodeToString(one.getDigestValue()));
            content = one.getURI().equals(bodyUri) ? one.getDigestValue() : content;
        }
        List<Message.Block> blocks = new ArrayList<>(4);
        for (Element one = first(first(next(header))); one != null; one = next(one)) {
            if (one.getLocalName().equals("MeterReading")) {
                meterReading(one, sender, now, blocks);
            }
        }
        return new Message(sender, messageId, raw, content, echoed, blocks);
    }

    private void meterReading(Element reading, String sender, long nowMs, List<Message.Block> blocks) throws Refused {
        Element meter = find(reading, READINGS, "Meter"), point = find(reading, READINGS, "UsagePoint");
        String stream = "";
        for (Element name = find(meter, READINGS, "Names"); name != null; name = next(name)) {
            if (name.getLocalName().equals("Names") && named(find(name, READINGS, "NameType"), READINGS, "name").equals("channel")) {
                stream = named(name, READINGS, "name");
            }
        }
        for (Element block = first(reading); block != null; block = next(block)) {
            if (block.getLocalName().equals("IntervalBlocks")) {
                String type = find(block, READINGS, "ReadingType").getAttribute("ref");
                Enrolled.Key key = new Enrolled.Key(sender, named(point, READINGS, "mRID"), named(meter, READINGS, "mRID"), stream, type);
                Enrolled.Channel channel = enrolled.channels.get(key);
                if (channel == null) {
                    throw new Refused("unknown-channel");
                }
                intervals(block, channel, nowMs, blocks);
            }
        }
    }

    /** Read a block's intervals, each on the channel's grid and not in the future, into regular runs. */
    private static void intervals(Element block, Enrolled.Channel channel, long nowMs, List<Message.Block> blocks) throws Refused {
        List<String> values = new ArrayList<>(128), qualities = new ArrayList<>(128);
        long start = 0, last = 0;
        for (Element one = first(block); one != null; one = next(one)) {
            if (!one.getLocalName().equals("IntervalReadings")) {
                continue;
            }
            String moment = "", value = "", quality = "";
            for (Element part = first(one); part != null; part = next(part)) {
                switch (part.getLocalName()) {
                    case "timeStamp" -> moment = text(part);
                    case "value" -> value = text(part);
                    case "ReadingQualities" -> quality += find(part, READINGS, "ReadingQualityType").getAttribute("ref") + ";";
                    default -> { }
                }
            }
            long end = milliseconds(moment) / 1000;
            if (value.isEmpty() || end <= channel.validFromUtc() || (end + channel.offsetS()) % DAY_S % channel.intervalS() != 0) {
                throw new Refused("readings-refused");
            }
            if (end * 1000 > nowMs + AHEAD_MS) {
                throw new Refused("reading-in-future");
            }
            if (!values.isEmpty() && end != last + channel.intervalS()) {
                close(channel, start, values, qualities, blocks);
            }
            start = values.isEmpty() ? end : start;
            last = end;
            values.add(value);
            qualities.add(quality);
        }
        close(channel, start, values, qualities, blocks);
    }

    private static void close(Enrolled.Channel channel, long start, List<String> values, List<String> qualities,
            List<Message.Block> blocks) {
        if (!values.isEmpty()) {
            blocks.add(new Message.Block(channel.id(), start, channel.intervalS(), values.toArray(new String[0]),
                    qualities.toArray(new String[0])));
            values.clear();
            qualities.clear();
        }
    }

    /** Milliseconds of an xs:dateTime with a zone; the form meters send without java.time's formatter, which costs ten times this. */
    private static long milliseconds(String text) {
        if (text.length() == 20 && text.charAt(19) == 'Z' && text.charAt(10) == 'T') {
            long day = LocalDate.of(digits(text, 0, 4), digits(text, 5, 7), digits(text, 8, 10)).toEpochDay();
            return ((day * 24 + digits(text, 11, 13)) * 60 + digits(text, 14, 16)) * 60_000 + digits(text, 17, 19) * 1000L;
        }
        return OffsetDateTime.parse(text).toInstant().toEpochMilli();
    }

    private static int digits(String text, int from, int to) {
        return Integer.parseInt(text, from, to, 10);
    }

    private static DocumentBuilder parser() {
        try {
            DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
            factory.setNamespaceAware(true);
            factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
            factory.setFeature("http://apache.org/xml/features/dom/defer-node-expansion", false);
            DocumentBuilder made = factory.newDocumentBuilder();
            made.setErrorHandler(null);
            return made;
        } catch (ParserConfigurationException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static byte[] base64(Element element) {
        return Base64.getMimeDecoder().decode(text(element));
    }

    /** The only child of that name; two of them, or none, are refused. */
    private static Element only(Element parent, String space, String name) throws Refused {
        Element found = null;
        for (Element one = first(parent); one != null; one = next(one)) {
            if (one.getLocalName().equals(name) && space.equals(one.getNamespaceURI())) {
                if (found != null) {
                    throw new Refused("malformed");
                }
                found = one;
            }
        }
        if (found == null) {
            throw new Refused("malformed");
        }
        return found;
    }

    private static Element find(Element parent, String space, String name) {
        Element one = parent == null ? null : first(parent);
        while (one != null && !(one.getLocalName().equals(name) && space.equals(one.getNamespaceURI()))) {
            one = next(one);
        }
        return one;
    }

    private static String named(Element parent, String space, String name) {
        Element found = find(parent, space, name);
        return found == null ? "" : text(found);
    }

    private static Element first(Element parent) {
        return element(parent.getFirstChild());
    }

    private static Element next(Element one) {
        return element(one.getNextSibling());
    }

    private static Element element(Node node) {
        while (node != null && node.getNodeType() != Node.ELEMENT_NODE) {
            node = node.getNextSibling();
        }
        return (Element) node;
    }

    private static String text(Element element) {
        Node only = element.getFirstChild();
        return only != null && only.getNextSibling() == null ? only.getNodeValue().strip() : element.getTextContent().strip();
    }
}
