package togetherchat

import (
	"net/netip"
	"strings"
)

var (
	localSchemes  = []string{"unix:", "unix-abstract:"}
	remoteSchemes = []string{"dns:///", "dns:", "passthrough:///", "passthrough:", "ipv4:", "ipv6:"}
)

// isLocal reports whether every address of a target is on this machine, by its text alone. A target
// that cannot be parsed is not local: a typing error must not send a key unencrypted.
func isLocal(target string) bool {
	for _, scheme := range localSchemes {
		if strings.HasPrefix(target, scheme) {
			return true
		}
	}
	for _, scheme := range remoteSchemes {
		if rest, found := strings.CutPrefix(target, scheme); found {
			target = rest
			break
		}
	}
	for address := range strings.SplitSeq(target, ",") {
		if !isLocalHost(hostOf(address)) {
			return false
		}
	}
	return true
}

func hostOf(address string) string {
	if rest, bracketed := strings.CutPrefix(address, "["); bracketed {
		host, _, _ := strings.Cut(rest, "]")
		return host
	}
	if strings.Count(address, ":") > 1 {
		return address
	}
	host, _, _ := strings.Cut(address, ":")
	return host
}

func isLocalHost(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}
