package togetherchat

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	longestDuration  = 24 * time.Hour
	requestIDBytes   = 128
	reservedMetadata = "grpc-"
	binaryMetadata   = "-bin"
)

// ArgumentError is the error of a target, an option, metadata or a text that gRPC cannot use. It is
// returned at once: nothing was sent. Its words are those of clients/conformance/arguments.json, which
// are the same in all clients.
type ArgumentError struct {
	// Message names the argument, the rule and the fix. It contains no key.
	Message string
}

// Error returns the message.
func (e *ArgumentError) Error() string { return "togetherchat: " + e.Message }

// GRPCStatus returns an InvalidArgument, for [status.Code].
func (e *ArgumentError) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, e.Message)
}

func argumentError(format string, parts ...any) error {
	return &ArgumentError{Message: fmt.Sprintf(format, parts...)}
}

// checkedKey returns a key without surrounding white space. Its errors never contain the key.
func checkedKey(key, name string) (string, error) {
	key = strings.TrimSpace(key)
	if key == "" {
		return "", argumentError("%s: must not be empty; leave it out to send no key", name)
	}
	if !isPrintable(key) || strings.Contains(key, " ") {
		return "", argumentError("%s: must be printable ASCII without spaces (the key is not shown)", name)
	}
	return key, nil
}

func checkDuration(duration time.Duration, name string) error {
	if duration <= 0 || duration > longestDuration {
		return argumentError("%s: must be above 0 and at most one day; leave it out for the default", name)
	}
	return nil
}

func checkRequestID(id string) error {
	if len(id) > requestIDBytes || !isPrintable(id) {
		return argumentError("requestID: must be 1 to 128 printable ASCII characters; leave it out for a random id")
	}
	return nil
}

// checkMetadata checks the metadata that the caller put into the context.
func checkMetadata(ctx context.Context) error {
	sent, _ := metadata.FromOutgoingContext(ctx)
	for name, values := range sent {
		if err := checkMetadataName(name); err != nil {
			return err
		}
		for _, value := range values {
			if !strings.HasSuffix(name, binaryMetadata) && !isPrintable(value) {
				return argumentError("metadata: the value of \"%s\" must be printable ASCII; "+
					"encode other text, for example with percent signs", name)
			}
		}
	}
	return nil
}

// checkMetadataName checks a name in lower case, as gRPC sends it.
func checkMetadataName(name string) error {
	switch {
	case name == "":
		return argumentError("metadata: a name must not be empty")
	case !isASCII(name):
		return argumentError("metadata: a name must be ASCII; use letters, digits, \"-\", \"_\" and \".\"")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		return argumentError("metadata: the name \"%s\" must have only letters, digits, \"-\", \"_\" and \".\"", name)
	case strings.HasPrefix(name, reservedMetadata):
		return argumentError("metadata: the name \"%s\" is reserved; names that start with \"grpc-\" belong to gRPC", name)
	default:
		return nil
	}
}

// checkText rejects a text that is not UTF-8: gRPC would fail the call as Internal, without its place.
func checkText(message protoreflect.Message, place string) (err error) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		here := strings.TrimPrefix(place+"."+string(field.Name()), ".")
		switch {
		case field.IsList():
			for index := range value.List().Len() {
				element := fmt.Sprintf("%s[%d]", here, index)
				if err = checkTextOf(field, value.List().Get(index), element); err != nil {
					break
				}
			}
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, element protoreflect.Value) bool {
				entry := fmt.Sprintf("%s[%q]", here, key.String())
				if err = notUTF8(key.String(), here); err == nil {
					err = checkTextOf(field.MapValue(), element, entry)
				}
				return err == nil
			})
		default:
			err = checkTextOf(field, value, here)
		}
		return err == nil
	})
	return err
}

func checkTextOf(field protoreflect.FieldDescriptor, value protoreflect.Value, place string) error {
	switch field.Kind() {
	case protoreflect.StringKind:
		return notUTF8(value.String(), place)
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return checkText(value.Message(), place)
	default:
		return nil
	}
}

// notUTF8 returns the error of a text that is not UTF-8, or nil.
func notUTF8(text, place string) error {
	if utf8.ValidString(text) {
		return nil
	}
	if hasHalfOfAPair(text) {
		return argumentError("%s: is not valid Unicode: it has half of a surrogate pair; "+
			"cut text between whole characters", place)
	}
	return argumentError("%s: is not valid UTF-8; decode the bytes before they become text", place)
}

// hasHalfOfAPair reports whether a text has U+D800 to U+DFFF, encoded as UTF-8 encodes other characters.
func hasHalfOfAPair(text string) bool {
	for index := 0; index+1 < len(text); index++ {
		if text[index] == 0xed && text[index+1] >= 0xa0 && text[index+1] <= 0xbf {
			return true
		}
	}
	return false
}

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(letter rune) bool { return letter < ' ' || letter > '~' })
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(letter rune) bool { return letter > 0x7f })
}
