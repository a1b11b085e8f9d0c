package iam_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

func TestEncodedMessage(t *testing.T) {
	w := newWorld(t)
	alice := w.user(t, "alice", `{"Version":"2012-10-17","Statement":[{"Sid":"Here","Effect":"Allow","Action":"ec2:*",`+
		`"Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}}]}`)
	err := w.Authorize(t.Context(), alice, "ec2:RunInstances", nil, nil)
	if code(err) != "UnauthorizedOperation" {
		t.Fatalf("error %v", err)
	}
	_, encoded, found := strings.Cut(err.Error(), "Encoded authorization failure message: ")
	if !found || len(encoded) > 10_240 || strings.Contains(encoded, "alice") {
		t.Fatalf("message %q", err)
	}
	text, err := w.DecodeMessage(t.Context(), demoAccount, encoded)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Allowed  bool
		Failures struct {
			Items []struct {
				Key        string
				Want, Have []string
			}
		}
		Context struct {
			Principal struct{ ID, ARN string }
			Action    string
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	if m.Allowed || m.Context.Action != "ec2:RunInstances" || m.Context.Principal.ARN != alice.ARN ||
		len(m.Failures.Items) != 1 || m.Failures.Items[0].Key != "aws:RequestedRegion" ||
		m.Failures.Items[0].Have[0] != "us-east-1" {
		t.Errorf("message %s", text)
	}
	for name, other := range map[string]string{"altered": encoded[:len(encoded)-4] + "AAAA", "none": "x", "empty": ""} {
		if _, err := w.DecodeMessage(t.Context(), demoAccount, other); !errors.Is(err, iam.ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.DecodeMessage(t.Context(), otherAccount, encoded); !errors.Is(err, iam.ErrMessage) {
		t.Errorf("another account: %v", err)
	}
}
