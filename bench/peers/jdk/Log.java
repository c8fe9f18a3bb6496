import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;

/**
 * The durable write: one append-only file, a group of messages a sync; ids and intervals on file are indexed in memory.
 *
 * <p>The JDK has no database. A file that is only appended costs less than one, which is to this peer's benefit.
 */
final class Log {
    private record Waiting(Message message, Consumer<String> answer) {}

    private record Stored(byte[] contentDigest, String receipt) {}

    private record Id(String sender, String messageId) {}

    private final FileChannel file;
    private final Receipts receipts;
    private final BlockingQueue<Waiting> queue = new LinkedBlockingQueue<>();
    private final Map<Id, Stored> ids = new HashMap<>();
    private final Map<Integer, TreeMap<Long, Message.Block>> channels = new HashMap<>();
    private long seq;

    Log(Path path, Receipts receipts) throws IOException {
        this.receipts = receipts;
        file = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    /** Queue a message; `answer` gets its receipt once it is on disk, or null where other content has its id. */
    void record(Message message, Consumer<String> answer) {
        queue.add(new Waiting(message, answer));
    }

    /** Write group after group, for ever; a failing disk ends the process. */
    void run() throws Exception {
        List<Waiting> group = new ArrayList<>();
        while (true) {
            group.add(queue.take());
            queue.drainTo(group);
            String[] answers = new String[group.size()];
            ByteArrayOutputStream bytes = new ByteArrayOutputStream(1 << 16);
            DataOutputStream out = new DataOutputStream(bytes);
            for (int number = 0; number < answers.length; number++) {
                answers[number] = one(group.get(number).message(), out);
            }
            ByteBuffer left = ByteBuffer.wrap(bytes.toByteArray());
            while (left.hasRemaining()) {
                file.write(left);
            }
            file.force(false);
            for (int number = 0; number < answers.length; number++) {
                group.get(number).answer().accept(answers[number]);
            }
            group.clear();
        }
    }

    private String one(Message message, DataOutputStream out) throws Exception {
        Id id = new Id(message.sender(), message.messageId());
        Stored known = ids.get(id);
        if (known != null) {
            return Arrays.equals(known.contentDigest(), message.contentDigest()) ? known.receipt() : null;
        }
        int[] counts = new int[3];
        List<Message.Block> kept = new ArrayList<>(message.blocks().size());
        for (Message.Block block : message.blocks()) {
            compare(block, counts, kept);
        }
        long now = System.currentTimeMillis();
        String receipt = receipts.make(message, now, ++seq, counts);
        ids.put(id, new Stored(message.contentDigest(), receipt));
        write(message, now, kept, receipt, out);
        return receipt;
    }

    /** Count what is new, known and other than on file; keep the whole block unless all of it is known. */
    private void compare(Message.Block block, int[] counts, List<Message.Block> kept) {
        TreeMap<Long, Message.Block> onFile = channels.computeIfAbsent(block.channel(), number -> new TreeMap<>());
        Map<Long, String> before = new HashMap<>();
        Map.Entry<Long, Message.Block> one = onFile.floorEntry(block.lastEndUtc());
        while (one != null && one.getValue().lastEndUtc() >= block.firstEndUtc()) {
            Message.Block old = one.getValue();
            for (int place = 0; place < old.values().length; place++) {
                before.putIfAbsent(old.firstEndUtc() + (long) place * old.intervalS(), old.values()[place]);
            }
            one = onFile.lowerEntry(one.getKey());
        }
        int known = 0, conflicting = 0, all = block.values().length;
        for (int place = 0; place < all && !before.isEmpty(); place++) {
            String old = before.get(block.firstEndUtc() + (long) place * block.intervalS());
            boolean equal = old != null && new BigDecimal(old).compareTo(new BigDecimal(block.values()[place])) == 0;
            known += equal ? 1 : 0;
            conflicting += old != null && !equal ? 1 : 0;
        }
        counts[0] += all - known - conflicting;
        counts[1] += known;
        counts[2] += conflicting;
        if (known < all) {
            kept.add(block);
            onFile.putIfAbsent(block.firstEndUtc(), block);
        }
    }

    private void write(Message message, long now, List<Message.Block> blocks, String receipt, DataOutputStream out)
            throws IOException {
        out.writeLong(seq);
        out.writeLong(now);
        for (byte[] part : List.of(bytes(message.sender()), bytes(message.messageId()), message.contentDigest(),
                message.raw(), bytes(receipt))) {
            out.writeInt(part.length);
            out.write(part);
        }
        out.writeInt(blocks.size());
        for (Message.Block block : blocks) {
            out.writeInt(block.channel());
            out.writeLong(block.firstEndUtc());
            out.writeInt(block.intervalS());
            byte[] values = bytes("[\"" + String.join("\",\"", block.values()) + "\"]");
            out.writeInt(values.length);
            out.write(values);
            byte[] qualities = bytes(String.join(",", block.qualities()));
            out.writeInt(qualities.length);
            out.write(qualities);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
