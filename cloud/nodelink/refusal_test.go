package nodelink_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func TestRefusalOverTheWire(t *testing.T) {
	sent := &nodelink.RefusedError{Reason: nodelink.ReasonRemoved, Detail: "its disk fails", Serial: "a1"}
	// What a caller gets is made anew from the status' bytes.
	wire := status.FromProto(sent.GRPCStatus().Proto()).Err()
	for name, err := range map[string]error{
		"as it was made": sent, "from the wire": wire, "wrapped": fmt.Errorf("hear the cloud: %w", wire),
		"joined": errors.Join(wire, errors.New("close")),
	} {
		if got, ok := nodelink.RefusalOf(err); !ok || *got != *sent {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
	if status.Code(wire) != codes.PermissionDenied {
		t.Errorf("code %s", status.Code(wire))
	}
	for name, err := range map[string]error{
		"none": nil, "any error": errors.New("x"), "denied for another reason": status.Error(codes.PermissionDenied, "no"),
	} {
		if got, ok := nodelink.RefusalOf(err); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
