package togetherchat

import _ "embed"

// ServiceConfig is the gRPC service config that comes with the contract, as JSON: what [Dial]
// gives to gRPC. It is the file beside the protos, byte for byte.
//
//go:embed service_config.json
var ServiceConfig string
