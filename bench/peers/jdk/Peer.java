import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.concurrent.Executors;

/**
 * The JDK's own parts, put together for bench/peers.py: com.sun.net.httpserver, javax.xml.parsers, javax.xml.crypto.dsig,
 * javax.xml.validation, java.nio. What each step does, and where this peer has the benefit, is in bench/README.md.
 *
 * <p>Arguments: the folder with enrolled.tsv, bus.key and the log to be; the folder of schemas. Prints its address as JSON.
 */
public final class Peer {
    private static final int READERS = 16;
    private static final String HEAD =
            "<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>"
            + "<MeterReadingsResponseMessage xmlns=\"http://iec.ch/TC57/2011/MeterReadingsMessage\">"
            + "<Header xmlns:c=\"http://iec.ch/TC57/2011/schema/message\"><c:Verb>reply</c:Verb><c:Noun>MeterReadings</c:Noun>"
            + "<c:Source>bus</c:Source><c:CorrelationID>";
    private static final String MIDDLE =
            "</c:CorrelationID></Header><Reply><Result xmlns=\"http://iec.ch/TC57/2011/schema/message\">OK</Result></Reply>"
            + "<Payload>";
    private static final String TAIL = "</Payload></MeterReadingsResponseMessage></soap:Body></soap:Envelope>";

    private final Messages messages;
    private final Log log;

    private Peer(Path folder, Path schemas) throws Exception {
        messages = new Messages(Enrolled.load(folder.resolve("enrolled.tsv")), schemas);
        log = new Log(folder.resolve("messages.log"), new Receipts(folder.resolve("bus.key")));
    }

    public static void main(String[] arguments) throws Exception {
        Peer peer = new Peer(Path.of(arguments[0]), Path.of(arguments[1]));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 1024);
        server.setExecutor(Executors.newFixedThreadPool(READERS));
        server.createContext("/metering", peer::handle);
        server.start();
        System.out.println("{\"addresses\": [\"http://127.0.0.1:" + server.getAddress().getPort() + "\"]}");
        System.out.flush();
        peer.log.run();
    }

    /** Check a message and queue it; the log's thread answers, after the sync. */
    private void handle(HttpExchange exchange) throws IOException {
        try {
            byte[] raw = exchange.getRequestBody().readAllBytes();
            Message message = messages.open(raw);
            log.record(message, answer -> {
                try {
                    if (answer == null) {
                        refuse(exchange, "message-id-reused");
                    } else {
                        send(exchange, 200, HEAD + message.messageId() + MIDDLE + answer + TAIL);
                    }
                } catch (IOException gone) {
                    exchange.close();
                }
            });
        } catch (Refused refused) {
            refuse(exchange, refused.getMessage());
        }
    }

    private static void refuse(HttpExchange exchange, String code) throws IOException {
        send(exchange, 500, "<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body><soap:Fault>"
                + "<faultcode>soap:Client</faultcode><faultstring>" + code + "</faultstring></soap:Fault></soap:Body>"
                + "</soap:Envelope>");
    }

    private static void send(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "text/xml; charset=utf-8");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}
