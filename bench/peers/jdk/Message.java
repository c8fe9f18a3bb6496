import java.util.List;

/** What a genuine message says, and the bytes it came in. */
record Message(String sender, String messageId, byte[] raw, byte[] contentDigest, List<String> references, List<Block> blocks) {

    /** A run of regular intervals of one channel: decimal literals as sent, the codes of each value's qualities. */
    record Block(int channel, long firstEndUtc, int intervalS, String[] values, String[] qualities) {
        long lastEndUtc() {
            return firstEndUtc + (values.length - 1L) * intervalS;
        }
    }
}
