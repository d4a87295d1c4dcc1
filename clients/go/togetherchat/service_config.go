package togetherchat

import _ "embed"

// ServiceConfig is the contract's gRPC service config as JSON, which [Dial] passes to gRPC. The text is
// a copy of the file beside the protos, byte for byte.
//
//go:embed service_config.json
var ServiceConfig string
