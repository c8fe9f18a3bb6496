import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import javax.xml.crypto.dsig.CanonicalizationMethod;
import javax.xml.crypto.dsig.DigestMethod;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.SignatureMethod;
import javax.xml.crypto.dsig.SignedInfo;
import javax.xml.crypto.dsig.Transform;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMSignContext;
import javax.xml.crypto.dsig.spec.C14NMethodParameterSpec;
import javax.xml.crypto.dsig.spec.TransformParameterSpec;
import javax.xml.parsers.DocumentBuilder;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.transform.OutputKeys;
import javax.xml.transform.Transformer;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

/** Makes receipts: an element with an enveloped signature, ECDSA P-256 as Gridpost's has. One thread uses it. */
final class Receipts {
    private static final String SPACE = "urn:gridpost:receipt:1";
    private static final String EXCLUSIVE = CanonicalizationMethod.EXCLUSIVE;

    private final PrivateKey key;
    private final DocumentBuilder builder;
    private final Transformer writer;
    private final XMLSignatureFactory factory = XMLSignatureFactory.getInstance("DOM");
    private final DigestMethod sha256;
    private final SignatureMethod ecdsa;

    Receipts(Path file) throws Exception {
        String pem = Files.readString(file).replaceAll("-----[A-Z ]+-----", "");
        key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(pem)));
        DocumentBuilderFactory documents = DocumentBuilderFactory.newInstance();
        documents.setNamespaceAware(true);
        builder = documents.newDocumentBuilder();
        writer = TransformerFactory.newInstance().newTransformer();
        writer.setOutputProperty(OutputKeys.OMIT_XML_DECLARATION, "yes");
        sha256 = factory.newDigestMethod(DigestMethod.SHA256, null);
        ecdsa = factory.newSignatureMethod(SignatureMethod.ECDSA_SHA256, null);
    }

    /** Return the signed receipt as text; the counts are stored, known, conflicting. */
    String make(Message message, long recordedAtMs, long seq, int[] counts) throws Exception {
        Document document = builder.newDocument();
        Element receipt = document.createElementNS(SPACE, "Receipt");
        receipt.setAttributeNS("http://www.w3.org/2000/xmlns/", "xmlns", SPACE); // or canonicalisation does not see it
        document.appendChild(receipt);
        add(receipt, "messageId", message.messageId());
        add(receipt, "sender", message.sender());
        add(receipt, "contentDigest", Base64.getEncoder().encodeToString(message.contentDigest()));
        for (String one : message.references()) {
            add(receipt, "reference", one);
        }
        add(receipt, "recordedAt", Instant.ofEpochMilli(recordedAtMs).toString());
        add(receipt, "seq", Long.toString(seq));
        add(receipt, "stored", Integer.toString(counts[0]));
        add(receipt, "known", Integer.toString(counts[1]));
        add(receipt, "conflicting", Integer.toString(counts[2]));
        // Transforms remember the document they first worked on, so each receipt wants its own.
        CanonicalizationMethod canonical = factory.newCanonicalizationMethod(EXCLUSIVE, (C14NMethodParameterSpec) null);
        List<Transform> transforms = List.of(factory.newTransform(Transform.ENVELOPED, (TransformParameterSpec) null),
                factory.newTransform(EXCLUSIVE, (TransformParameterSpec) null));
        Reference whole = factory.newReference("", sha256, transforms, null, null);
        SignedInfo signed = factory.newSignedInfo(canonical, ecdsa, List.of(whole));
        factory.newXMLSignature(signed, null).sign(new DOMSignContext(key, receipt));
        StringWriter out = new StringWriter(2048);
        writer.transform(new DOMSource(document), new StreamResult(out));
        return out.toString();
    }

    private static void add(Element receipt, String name, String text) {
        Element made = receipt.getOwnerDocument().createElementNS(SPACE, name);
        made.appendChild(receipt.getOwnerDocument().createTextNode(text));
        receipt.appendChild(made);
    }
}
