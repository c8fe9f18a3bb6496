// JDK XML signature: sign a CreatedMeterReadings, push it, verify the signed receipt. Nothing but the JDK is used.

import java.io.ByteArrayInputStream;
import java.io.StringWriter;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import javax.xml.crypto.XMLStructure;
import javax.xml.crypto.dom.DOMStructure;
import javax.xml.crypto.dsig.*;
import javax.xml.crypto.dsig.dom.DOMSignContext;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import javax.xml.crypto.dsig.spec.C14NMethodParameterSpec;
import javax.xml.crypto.dsig.spec.TransformParameterSpec;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

public class JdkSigner {
    static final String WSS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-";
    static final String WSSE = WSS + "wssecurity-secext-1.0.xsd", WSU = WSS + "wssecurity-utility-1.0.xsd";
    static final String X509 = WSS + "x509-token-profile-1.0#X509v3", BASE64 = WSS + "soap-message-security-1.0#Base64Binary";
    static final String SOAP = "http://schemas.xmlsoap.org/soap/envelope/", IEC = "http://iec.ch/TC57/2011";
    static final String BUS_KEY_USAGE = "2.25.284392625550119026516274436571923214786";

    static String env(String name) {
        return System.getenv("GRIDPOST_" + name);
    }

    static byte[] pem(String name) throws Exception {
        return Base64.getMimeDecoder().decode(Files.readString(Path.of(env(name))).replaceAll("-----[^-]+-----", ""));
    }

    static X509Certificate certificate(byte[] der) throws Exception {
        return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(der));
    }

    static Document parse(String xml) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setNamespaceAware(true);
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        return factory.newDocumentBuilder().parse(new ByteArrayInputStream(xml.getBytes("UTF-8")));
    }

    static Element one(Document document, String space, String name) {
        return (Element) document.getElementsByTagNameNS(space, name).item(0);
    }

    static String message() throws Exception {
        String header = "<h:Verb>created</h:Verb><h:Noun>MeterReadings</h:Noun><h:Timestamp>" + env("NOW") + "</h:Timestamp><h:Source>"
            + env("SERIAL") + "</h:Source><h:MessageID>" + env("MESSAGE_ID") + "</h:MessageID>";
        String reading = "<IntervalBlocks><IntervalReadings><timeStamp>" + env("END") + "</timeStamp><value>1.5</value></IntervalReadings>"
            + "<ReadingType ref=\"" + env("READING_TYPE") + "\"/></IntervalBlocks><Meter><mRID>" + env("METER") + "</mRID></Meter>"
            + "<UsagePoint><mRID>" + env("USAGE_POINT") + "</mRID></UsagePoint>";
        Document document = parse("<s:Envelope xmlns:s=\"" + SOAP + "\"><s:Header><w:Security xmlns:w=\"" + WSSE + "\" xmlns:u=\"" + WSU
            + "\" s:mustUnderstand=\"1\"><w:BinarySecurityToken u:Id=\"token\" ValueType=\"" + X509 + "\" EncodingType=\"" + BASE64 + "\">"
            + Base64.getEncoder().encodeToString(pem("CERT")) + "</w:BinarySecurityToken><u:Timestamp u:Id=\"time\"><u:Created>"
            + env("NOW") + "</u:Created></u:Timestamp></w:Security></s:Header><s:Body xmlns:u=\"" + WSU + "\" u:Id=\"body\">"
            + "<t:CreatedMeterReadings xmlns:t=\"" + IEC + "/MeterReadingsMessage\"><t:Header xmlns:h=\"" + IEC + "/schema/message\">"
            + header + "</t:Header><t:Payload><MeterReadings xmlns=\"" + IEC + "/MeterReadings#\"><MeterReading>" + reading
            + "</MeterReading></MeterReadings></t:Payload></t:CreatedMeterReadings></s:Body></s:Envelope>");
        XMLSignatureFactory factory = XMLSignatureFactory.getInstance("DOM");
        String c14n = CanonicalizationMethod.EXCLUSIVE;
        DigestMethod digest = factory.newDigestMethod(DigestMethod.SHA256, null);
        List<Transform> transforms = List.of(factory.newTransform(c14n, (TransformParameterSpec) null));
        String method = env("FAMILY").equals("EC") ? SignatureMethod.ECDSA_SHA256 : SignatureMethod.RSA_SHA256;
        SignedInfo info = factory.newSignedInfo(
            factory.newCanonicalizationMethod(c14n, (C14NMethodParameterSpec) null), factory.newSignatureMethod(method, null),
            List.of(factory.newReference("#body", digest, transforms, null, null),
                factory.newReference("#time", digest, transforms, null, null)));
        Element named = document.createElementNS(WSSE, "w:SecurityTokenReference");
        Element token = document.createElementNS(WSSE, "w:Reference");
        token.setAttribute("URI", "#token");
        token.setAttribute("ValueType", X509);
        named.appendChild(token);
        var keyInfo = factory.getKeyInfoFactory().newKeyInfo(List.<XMLStructure>of(new DOMStructure(named)));
        PrivateKey key = KeyFactory.getInstance(env("FAMILY")).generatePrivate(new PKCS8EncodedKeySpec(pem("KEY")));
        DOMSignContext context = new DOMSignContext(key, one(document, WSSE, "Security"));
        context.setIdAttributeNS(one(document, SOAP, "Body"), WSU, "Id");
        context.setIdAttributeNS(one(document, WSU, "Timestamp"), WSU, "Id");
        factory.newXMLSignature(info, keyInfo).sign(context);
        StringWriter text = new StringWriter();
        TransformerFactory.newInstance().newTransformer().transform(new DOMSource(document), new StreamResult(text));
        return text.toString();
    }

    /** The receipt: its certificate is a bus's of the CA we trust, and Body and Timestamp are what was signed. */
    static String receipt(String raw) throws Exception {
        Document document = parse(raw);
        byte[] token = Base64.getDecoder().decode(one(document, WSSE, "BinarySecurityToken").getTextContent());
        X509Certificate bus = certificate(token);
        bus.verify(certificate(pem("BUS_CA")).getPublicKey());
        bus.checkValidity();
        if (!bus.getExtendedKeyUsage().contains(BUS_KEY_USAGE)) return "receipt refused: not a bus's certificate";
        Element body = one(document, SOAP, "Body"), time = one(document, WSU, "Timestamp");
        var context = new DOMValidateContext(bus.getPublicKey(), one(document, XMLSignature.XMLNS, "Signature"));
        context.setIdAttributeNS(body, WSU, "Id");
        context.setIdAttributeNS(time, WSU, "Id");
        XMLSignature signature = XMLSignatureFactory.getInstance("DOM").unmarshalXMLSignature(context);
        Set<String> covered = new TreeSet<>();
        for (Object one : signature.getSignedInfo().getReferences()) covered.add(((Reference) one).getURI());
        Set<String> wanted = Set.of("#" + body.getAttributeNS(WSU, "Id"), "#" + time.getAttributeNS(WSU, "Id"));
        if (!covered.equals(wanted) || !signature.validate(context)) return "receipt refused: signature";
        return "receipt verified: entry " + one(document, "urn:gridpost:receipt:1", "seq").getTextContent();
    }

    public static void main(String[] arguments) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(env("METERING"))).header("Content-Type", "text/xml; charset=utf-8")
            .header("SOAPAction", "\"" + IEC + "/MeterReadings/CreatedMeterReadings\"")
            .POST(HttpRequest.BodyPublishers.ofString(message())).build();
        // Only HTTP/1.1 is spoken there; an Upgrade header is refused.
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        String raw = client.send(request, BodyHandlers.ofString()).body();
        int fault = raw.indexOf("<faultstring>");
        System.out.println(fault < 0 ? receipt(raw) : "refused by the bus: " + raw.substring(fault + 13, raw.indexOf('<', fault + 13)));
        System.exit(fault < 0 ? 0 : 1);
    }
}
