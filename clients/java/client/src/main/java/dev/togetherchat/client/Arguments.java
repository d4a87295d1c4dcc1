package dev.togetherchat.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.MapEntry;
import com.google.protobuf.Message;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.regex.Pattern;

/**
 * Checks of what a caller passes to the client: keys, durations, request ids, metadata and text. {@link Target} checks
 * targets. The words are those of {@code clients/conformance/arguments.json}, which are the same in all clients. No
 * exception repeats a key.
 */
final class Arguments {
    private static final Duration LONGEST = Duration.ofDays(1);
    private static final Pattern PRINTABLE = Pattern.compile("[ -~]*");
    private static final Pattern REQUEST_ID = Pattern.compile("[ -~]{1,128}");
    private static final Pattern METADATA_NAME = Pattern.compile("[a-z0-9_.-]+");
    private static final String NAME_FORM = "letters, digits, \"-\", \"_\" and \".\"";

    private Arguments() {}

    /** Returns a key without surrounding white space. */
    static String key(String key, String name) {
        String stripped = Objects.requireNonNull(key, name).strip();
        if (stripped.isEmpty()) {
            throw wrong("%s: must not be empty; leave it out to send no key", name);
        }
        if (!PRINTABLE.matcher(stripped).matches() || stripped.contains(" ")) {
            throw wrong("%s: must be printable ASCII without spaces (the key is not shown)", name);
        }
        return stripped;
    }

    /** Returns a duration above 0 and of at most one day. */
    static Duration duration(Duration duration, String name) {
        Objects.requireNonNull(duration, name);
        if (duration.compareTo(Duration.ZERO) <= 0 || duration.compareTo(LONGEST) > 0) {
            throw wrong("%s: must be above 0 and at most one day; leave it out for the default", name);
        }
        return duration;
    }

    /** Returns a request id; empty means a random one. */
    static String requestId(String requestId) {
        if (!requestId.isEmpty() && !REQUEST_ID.matcher(requestId).matches()) {
            throw wrong("requestId: must be 1 to 128 printable ASCII characters; leave it out for a random id");
        }
        return requestId;
    }

    /** Checks a metadata pair, and returns the name in lower case, as gRPC sends it. */
    static String metadataName(String name, String value) {
        String sent = name.toLowerCase(Locale.ROOT);
        if (sent.isEmpty()) {
            throw wrong("metadata: a name must not be empty");
        }
        if (!sent.chars().allMatch(letter -> letter < 128)) {
            throw wrong("metadata: a name must be ASCII; use %s", NAME_FORM);
        }
        if (!METADATA_NAME.matcher(sent).matches()) {
            throw wrong("metadata: the name \"%s\" must have only %s", sent, NAME_FORM);
        }
        if (sent.startsWith("grpc-")) {
            throw wrong("metadata: the name \"%s\" is reserved; names that start with \"grpc-\" belong to gRPC", sent);
        }
        if (!PRINTABLE.matcher(value).matches()) {
            throw wrong(
                    "metadata: the value of \"%s\" must be printable ASCII; "
                            + "encode other text, for example with percent signs",
                    sent);
        }
        return sent;
    }

    /** Returns the request. Half of a surrogate pair in any text is an error: protobuf would send a question mark. */
    static <Q extends Message> Q text(Q request) {
        textOf(request, "");
        return request;
    }

    private static void textOf(Message message, String place) {
        message.getAllFields().forEach((field, value) -> {
            String here = place.isEmpty() ? field.getName() : place + "." + field.getName();
            if (field.isRepeated()) {
                List<?> elements = (List<?>) value;
                for (int index = 0; index < elements.size(); index++) {
                    textOf(field, elements.get(index), here + place(elements.get(index), index));
                }
            } else {
                textOf(field, value, here);
            }
        });
    }

    private static String place(Object element, int index) {
        return element instanceof MapEntry<?, ?> entry ? "[\"" + entry.getKey() + "\"]" : "[" + index + "]";
    }

    private static void textOf(FieldDescriptor field, Object value, String place) {
        switch (field.getJavaType()) {
            case MESSAGE -> {
                if (value instanceof MapEntry<?, ?> entry) {
                    textOf(entry.getDescriptorForType().findFieldByName("value"), entry.getValue(), place);
                } else {
                    textOf((Message) value, place);
                }
            }
            case STRING -> {
                if (hasHalfOfAPair((String) value)) {
                    throw wrong(
                            "%s: is not valid Unicode: it has half of a surrogate pair; "
                                    + "cut text between whole characters",
                            place);
                }
            }
            default -> {}
        }
    }

    private static boolean hasHalfOfAPair(String text) {
        for (int index = 0; index < text.length(); index++) {
            if (Character.isSurrogate(text.charAt(index))) {
                boolean pair = index + 1 < text.length()
                        && Character.isSurrogatePair(text.charAt(index), text.charAt(index + 1));
                if (!pair) {
                    return true;
                }
                index++;
            }
        }
        return false;
    }

    static IllegalArgumentException wrong(String format, Object... parts) {
        return new IllegalArgumentException(String.format(Locale.ROOT, format, parts));
    }
}
