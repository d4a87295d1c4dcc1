package dev.togetherchat.client;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;

/** Decides by the text of a target whether it is on this machine. No name is resolved. */
final class Target {
    private static final List<String> LOCAL_SCHEMES = List.of("unix:", "unix-abstract:");
    private static final List<String> SCHEMES = List.of("dns:///", "dns:", "ipv4:", "ipv6:");
    private static final Pattern LOOPBACK_V4 = Pattern.compile("127(\\.(0|[1-9]\\d?|1\\d\\d|2[0-4]\\d|25[0-5])){3}");
    private static final Pattern V6 = Pattern.compile("[0-9a-fA-F:.]*:[0-9a-fA-F:.]*");

    private Target() {}

    static boolean isLocal(String target) {
        if (LOCAL_SCHEMES.stream().anyMatch(target::startsWith)) {
            return true;
        }
        String addresses = SCHEMES.stream()
                .filter(target::startsWith)
                .findFirst()
                .map(scheme -> target.substring(scheme.length()))
                .orElse(target);
        return Arrays.stream(addresses.split(",", -1)).allMatch(address -> isLocalHost(host(address)));
    }

    private static String host(String address) {
        if (address.startsWith("[")) {
            int end = address.indexOf(']');
            return address.substring(1, end < 0 ? address.length() : end);
        }
        int colon = address.indexOf(':');
        return colon < 0 || colon != address.lastIndexOf(':') ? address : address.substring(0, colon);
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
