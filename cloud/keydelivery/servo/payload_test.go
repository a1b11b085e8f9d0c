package servo_test

import (
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
)

func TestUserData(t *testing.T) {
	text, err := servo.UserData("169.254.169.253:8773", "123456789012")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for word := range strings.SplitSeq(string(text), ";") {
		if key, value, ok := strings.Cut(word, "="); ok {
			got[key] = value
		}
	}
	for key, want := range map[string]string{
		"elb_service_url": "169.254.169.253", "euare_service_url": "169.254.169.253", "webservice_port": "8773",
		"loadbalancer_owner_account": "123456789012",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	for _, bad := range [][2]string{
		{"host", "1"}, {"host:0", "1"}, {"host:70000", "1"}, {"host:80", "a;b"}, {"ho=st:80", "1"},
	} {
		if text, err := servo.UserData(bad[0], bad[1]); err == nil {
			t.Errorf("%v gives %q", bad, text)
		}
	}
}

// TestEmptyListsAreOnTheWire: the original's elements are there whether something is in them or not.
func TestEmptyListsAreOnTheWire(t *testing.T) {
	body, err := (&servo.Description{LoadBalancers: []servo.LoadBalancer{{Listeners: []servo.Listener{{}}}}}).
		MarshalXMLBody("r")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(
		"PolicyNames PolicyDescriptions BackendServerDescriptions AvailabilityZones BackendInstances") {
		if !strings.Contains(string(body), "<"+name+"></"+name+">") {
			t.Errorf("no empty %s in %s", name, body)
		}
	}
}
