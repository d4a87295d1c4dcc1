package togetherchat

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

const (
	targetForm = "write \"host:port\", such as \"localhost:50051\""
	portMax    = 65535
)

var (
	urlForm    = regexp.MustCompile(`(?i)^(https?|grpcs?|wss?|tcp|tls|ssl)://`)
	customForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
	localForms = []string{"unix-abstract:", "unix:"}
	digits     = regexp.MustCompile(`^[0-9]{1,5}$`)
)

// checkTarget reports whether every address of a target is on this machine, by its text alone. It
// returns an [ArgumentError] for a target that gRPC would misread, such as a URL.
func checkTarget(target string) (local bool, err error) {
	if target == "" {
		return false, argumentError("target: must not be empty; " + targetForm)
	}
	if strings.ContainsFunc(target, func(letter rune) bool { return unicode.IsSpace(letter) || unicode.IsControl(letter) }) {
		return false, argumentError("target: must not contain spaces or control characters; " + targetForm)
	}
	if urlForm.MatchString(target) {
		return false, argumentError("target: must not be a URL; %s, and choose TLS with WithTLS or WithPlaintext", targetForm)
	}
	for _, scheme := range localForms {
		if path, found := strings.CutPrefix(target, scheme); found {
			return true, checkSocket(path)
		}
	}
	address, custom, err := withoutScheme(target)
	if err != nil || custom {
		return false, err
	}
	host, err := hostOf(address)
	return isLocalHost(host), err
}

func checkSocket(path string) error {
	if strings.Trim(path, "/") == "" {
		return argumentError("target: the path of the socket is missing; " +
			"write \"unix:PATH\", such as \"unix:/run/togetherchat.sock\"")
	}
	return nil
}

// withoutScheme returns the address in a target. A target is custom if it has another scheme and "://":
// only the resolver that the program registered for it knows its form.
func withoutScheme(target string) (address string, custom bool, err error) {
	if rest, found := strings.CutPrefix(target, "dns://"); found {
		// Between the slashes there may be the address of a DNS server.
		_, address, _ = strings.Cut(rest, "/")
		return address, false, nil
	}
	if rest, found := strings.CutPrefix(target, "dns:"); found {
		return rest, false, nil
	}
	for _, scheme := range []string{"ipv4", "ipv6"} {
		if strings.HasPrefix(target, scheme+":") {
			return "", false, argumentError("target: this client does not support the scheme \"%s\"; "+targetForm, scheme)
		}
	}
	return target, customForm.MatchString(target), nil
}

// hostOf returns the host of `host:port` or `[ipv6]:port`.
func hostOf(address string) (string, error) {
	if strings.ContainsAny(address, "/?#@") {
		return "", argumentError("target: must not have a path, a query or a user name; " + targetForm)
	}
	if strings.Contains(address, ",") {
		return "", argumentError("target: must be one address; several servers are one name in DNS, " +
			"such as \"dns:///chat.example.com:50051\"")
	}
	host, port, colon, err := split(address)
	switch {
	case err != nil:
		return "", err
	case host == "":
		return "", argumentError("target: the host is missing; " + targetForm)
	case !colon || port == "":
		return "", argumentError("target: the port is missing; " + targetForm)
	}
	if number, err := strconv.Atoi(port); err != nil || !digits.MatchString(port) || number < 1 || number > portMax {
		return "", argumentError("target: the port must be a number from 1 to 65535, such as \"localhost:50051\"")
	}
	return host, nil
}

// split cuts an address at the colon before its port.
func split(address string) (host, port string, colon bool, err error) {
	rest, bracket := strings.CutPrefix(address, "[")
	if !bracket {
		if strings.Count(address, ":") > 1 {
			return "", "", false, errIPv6()
		}
		host, port, colon = strings.Cut(address, ":")
		return host, port, colon, nil
	}
	host, after, closed := strings.Cut(rest, "]")
	if parsed, err := netip.ParseAddr(host); !closed || host != "" && (err != nil || !parsed.Is6()) {
		return "", "", false, errIPv6()
	}
	port, colon = strings.CutPrefix(after, ":")
	if after != "" && !colon {
		return "", "", false, errIPv6()
	}
	return host, port, colon, nil
}

func errIPv6() error {
	return argumentError("target: an IPv6 address needs brackets and a port, such as \"[::1]:50051\"")
}

func isLocalHost(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}
