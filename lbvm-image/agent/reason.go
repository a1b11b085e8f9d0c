package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/control"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
)

// fatal is a reason for which the guest stops, in words that are meant for the console.
type fatal struct {
	phrase string
	cause  error
}

func (f *fatal) Error() string {
	if f.cause == nil {
		return f.phrase
	}
	return f.phrase + ": " + f.cause.Error()
}

func (f *fatal) Unwrap() error { return f.cause }

// reason makes the short phrase that a milestone tells for an error. The console is kept and carried away with other
// artifacts, so errors whose text is not known to be harmless are named by their kind only.
func reason(err error) string {
	var (
		stop    *fatal
		refused *control.Error
		slow    net.Error
	)
	switch {
	case errors.Is(err, keydelivery.ErrMedium):
		// Its text names file and field and never quotes what was read.
		return oneLine(err.Error())
	case errors.As(err, &stop):
		return stop.phrase
	case errors.As(err, &refused) && refused.Code != "":
		return "refused: " + refused.Code
	case errors.As(err, &refused):
		return fmt.Sprintf("the cloud answered %d", refused.Status)
	case errors.Is(err, keydelivery.ErrAnswer):
		return "answer does not verify"
	case errors.Is(err, control.ErrMalformed):
		return "malformed answer"
	case errors.Is(err, metadata.ErrNone):
		return "instance has no role"
	case errors.Is(err, errCertificate):
		return "certificate cannot be used"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return "timeout"
	case errors.As(err, new(*net.OpError)):
		return "unreachable"
	default:
		return "internal error"
	}
}

// maxReason bounds a reason in bytes.
const maxReason = 200

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}
