/** A message that is not taken; the text is the code. */
final class Refused extends Exception {
    Refused(String code) {
        super(code, null, false, false);
    }
}
