package togetherchat

import "testing"

// A target is local if its address is, by its text alone.
func TestLocalTargets(t *testing.T) {
	for target, expected := range map[string]bool{
		"localhost:50051":                  true,
		"127.0.0.1:50051":                  true,
		"127.9.9.9:1":                      true,
		"[::1]:50051":                      true,
		"unix:run.sock":                    true,
		"unix:///run.sock":                 true,
		"unix-abstract:name":               true,
		"dns:///localhost:1":               true,
		"dns:localhost:1":                  true,
		"192.0.2.1:50051":                  false,
		"[2001:db8::1]:50051":              false,
		"chat.example:443":                 false,
		"localhost.example:443":            false,
		"127.0.0.1.example:443":            false,
		"dns:///chat.example:443":          false,
		"dns://127.0.0.1/chat.example:443": false,
		"passthrough:///127.0.0.1:1":       false,
		"passthrough:///own-dialer":        false,
		"0.0.0.0:50051":                    false,
	} {
		t.Run(target, func(t *testing.T) {
			actual, err := checkTarget(target)
			if err != nil || expected != actual {
				t.Errorf("expected %v, got %v, %v", expected, actual, err)
			}
		})
	}
}

// Plaintext is used for this machine or where it was chosen, and TLS otherwise.
func TestTransportOfATarget(t *testing.T) {
	for _, row := range []struct {
		name, target, expected string
		options                []Option
	}{
		{"this machine", "localhost:1", "insecure", nil},
		{"a network", "chat.example:443", "tls", nil},
		{"a network, plaintext chosen", "chat.example:443", "insecure", []Option{WithPlaintext()}},
		{"this machine, TLS chosen", "localhost:1", "tls", []Option{WithTLS(nil)}},
		{"the last option wins", "localhost:1", "insecure", []Option{WithTLS(nil), WithPlaintext()}},
	} {
		t.Run(row.name, func(t *testing.T) {
			plan, err := planDial(row.options)
			if err != nil {
				t.Fatal(err)
			}
			local, err := checkTarget(row.target)
			if err != nil {
				t.Fatal(err)
			}
			actual := plan.transportCredentials(local).Info().SecurityProtocol
			if row.expected != actual {
				t.Errorf("expected %s, got %s", row.expected, actual)
			}
		})
	}
}
