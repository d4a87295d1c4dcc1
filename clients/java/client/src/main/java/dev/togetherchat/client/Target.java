package dev.togetherchat.client;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.List;
import java.util.Objects;
import java.util.regex.Pattern;

/**
 * Checks the text of a target, and decides by it whether the target is on this machine. No name is resolved. The words
 * are those of {@code clients/conformance/arguments.json}, which are the same in all clients.
 */
final class Target {
    private static final String FORM = "write \"host:port\", such as \"localhost:50051\"";
    private static final String UNIX = "unix:";
    private static final List<String> UNSUPPORTED = List.of("ipv4", "ipv6", "unix-abstract");
    private static final Pattern URL = Pattern.compile("(?i)(https?|grpcs?|wss?|tcp|tls|ssl)://.*");
    private static final Pattern OTHER_SCHEME = Pattern.compile("(?i)[a-z][a-z0-9+.-]*://.*");
    private static final Pattern LOOPBACK_V4 = Pattern.compile("127(\\.(0|[1-9]\\d?|1\\d\\d|2[0-4]\\d|25[0-5])){3}");
    private static final Pattern V6 = Pattern.compile("[0-9a-fA-F:.]*:[0-9a-fA-F:.]*");
    private static final Pattern PORT = Pattern.compile("[0-9]{1,5}");
    private static final int PORT_MAX = 65535;

    private Target() {}

    /**
     * Returns whether the target is on this machine.
     *
     * @throws IllegalArgumentException if gRPC would misread the target, such as a URL
     */
    static boolean isLocal(String target) {
        checkCharacters(Objects.requireNonNull(target, "target"));
        if (target.startsWith(UNIX)) {
            checkSocket(target.substring(UNIX.length()));
            return true;
        }
        for (String scheme : UNSUPPORTED) {
            if (target.startsWith(scheme + ":")) {
                throw unsupported(scheme);
            }
        }
        if (target.startsWith("dns:")) {
            return isLocalHost(host(withoutDns(target)));
        }
        // Another scheme is that of a resolver that the program registered: only the resolver knows its form.
        return !OTHER_SCHEME.matcher(target).matches() && isLocalHost(host(target));
    }

    /** Returns the target in the form that grpc-java reads: its resolver for DNS requires slashes. */
    static String forGrpc(String target) {
        return target.startsWith("dns:") && !target.startsWith("dns:///")
                ? "dns:///" + target.substring("dns:".length())
                : target;
    }

    private static void checkCharacters(String target) {
        if (target.isEmpty()) {
            throw Arguments.wrong("target: must not be empty; " + FORM);
        }
        if (target.codePoints().anyMatch(Target::isSpaceOrControl)) {
            throw Arguments.wrong("target: must not contain spaces or control characters; " + FORM);
        }
        if (URL.matcher(target).matches()) {
            throw Arguments.wrong("target: must not be a URL; " + FORM + ", and choose TLS with tls() or plaintext()");
        }
    }

    private static boolean isSpaceOrControl(int letter) {
        return Character.isWhitespace(letter) || Character.isSpaceChar(letter) || Character.isISOControl(letter);
    }

    private static void checkSocket(String path) {
        if (path.isEmpty() || path.equals("//")) {
            throw Arguments.wrong("target: the path of the socket is missing; "
                    + "write \"unix:PATH\", such as \"unix:/run/togetherchat.sock\"");
        }
    }

    private static IllegalArgumentException unsupported(String scheme) {
        return Arguments.wrong("target: this client does not support the scheme \"%s\"; %s", scheme, FORM);
    }

    private static String withoutDns(String target) {
        String address = target.substring("dns:".length());
        if (address.startsWith("///")) {
            return address.substring("///".length());
        }
        if (address.startsWith("//")) {
            throw unsupported("dns");
        }
        return address;
    }

    /** Returns the host of {@code host:port} or {@code [ipv6]:port}. */
    private static String host(String address) {
        if (address.chars().anyMatch(letter -> "/?#@".indexOf(letter) >= 0)) {
            throw Arguments.wrong("target: must not have a path, a query or a user name; " + FORM);
        }
        if (address.contains(",")) {
            throw Arguments.wrong("target: must be one address; several servers are one name in DNS, "
                    + "such as \"dns:///chat.example.com:50051\"");
        }
        int end = address.startsWith("[") ? endOfBrackets(address) : endOfName(address);
        String host = address.startsWith("[") ? address.substring(1, end - 1) : address.substring(0, end);
        if (host.isEmpty()) {
            throw Arguments.wrong("target: the host is missing; " + FORM);
        }
        checkPort(address.substring(end));
        return host;
    }

    private static int endOfName(String address) {
        int colon = address.indexOf(':');
        if (colon != address.lastIndexOf(':')) {
            throw v6();
        }
        return colon < 0 ? address.length() : colon;
    }

    private static int endOfBrackets(String address) {
        int end = address.indexOf(']') + 1;
        String host = end == 0 ? "" : address.substring(1, end - 1);
        boolean whole = end > 0 && (end == address.length() || address.charAt(end) == ':');
        if (!whole || (!host.isEmpty() && !V6.matcher(host).matches())) {
            throw v6();
        }
        return end;
    }

    private static IllegalArgumentException v6() {
        return Arguments.wrong("target: an IPv6 address needs brackets and a port, such as \"[::1]:50051\"");
    }

    /** Checks a colon and the port after it. */
    private static void checkPort(String text) {
        if (text.length() < 2) {
            throw Arguments.wrong("target: the port is missing; " + FORM);
        }
        String port = text.substring(1);
        if (!PORT.matcher(port).matches() || Integer.parseInt(port) < 1 || Integer.parseInt(port) > PORT_MAX) {
            throw Arguments.wrong("target: the port must be a number from 1 to 65535, such as \"localhost:50051\"");
        }
    }

    private static boolean isLocalHost(String host) {
        return host.equals("localhost") || LOOPBACK_V4.matcher(host).matches() || isLoopbackV6(host);
    }

    private static boolean isLoopbackV6(String host) {
        if (!V6.matcher(host).matches()) {
            return false;
        }
        try {
            // Text with a colon is an address or an error, so no name is resolved.
            return InetAddress.getByName(host).isLoopbackAddress();
        } catch (UnknownHostException noAddress) {
            return false;
        }
    }
}
