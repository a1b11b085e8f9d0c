package ec2

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDocumentIsTheGuests holds what is signed here to what package imds of the node shows the same instance.
func TestDocumentIsTheGuests(t *testing.T) {
	want, err := os.ReadFile("../../fixtures/metadata/identity-document.json")
	if err != nil {
		t.Fatal(err)
	}
	inst := Instance{
		ID: "i-0123456789abcdef0", AccountID: "000000000001", ImageID: "ami-00000000000000001", InstanceType: "t3.nano",
		LaunchTime: time.Date(2026, time.March, 4, 4, 6, 7, 0, time.UTC), PrivateIP: "10.64.0.5",
	}
	got, err := inst.identityDocument("us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSuffix(string(want), "\n"), string(got)); diff != "" {
		t.Errorf("document (-guest's +signed):\n%s", diff)
	}
}
