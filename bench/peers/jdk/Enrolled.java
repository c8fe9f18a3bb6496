import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

/** Who is enrolled: by the SHA-256 of the certificate, parsed once; and which channels each may speak for. */
final class Enrolled {
    record Device(String serial, X509Certificate certificate) {}

    record Key(String serial, String usagePoint, String meter, String stream, String readingType) {}

    record Channel(int id, int intervalS, int offsetS, long validFromUtc) {}

    final Map<ByteBuffer, Device> devices = new HashMap<>();
    final Map<Key, Channel> channels = new HashMap<>();

    static Enrolled load(Path file) throws IOException, GeneralSecurityException {
        Enrolled made = new Enrolled();
        CertificateFactory certificates = CertificateFactory.getInstance("X.509");
        for (String line : Files.readAllLines(file)) {
            String[] part = line.split("\t", -1);
            if (part[0].equals("device")) {
                byte[] der = Base64.getDecoder().decode(part[2]);
                X509Certificate parsed = (X509Certificate) certificates.generateCertificate(new ByteArrayInputStream(der));
                made.devices.put(digest(der), new Device(part[1], parsed));
            } else {
                Key key = new Key(part[1], part[2], part[3], part[4], part[5]);
                int interval = Integer.parseInt(part[6]), offset = Integer.parseInt(part[7]);
                made.channels.put(key, new Channel(made.channels.size() + 1, interval, offset, Long.parseLong(part[8])));
            }
        }
        return made;
    }

    Device signer(byte[] der) throws GeneralSecurityException {
        return devices.get(digest(der));
    }

    private static ByteBuffer digest(byte[] der) throws GeneralSecurityException {
        return ByteBuffer.wrap(MessageDigest.getInstance("SHA-256").digest(der));
    }
}
