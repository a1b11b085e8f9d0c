package elb

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
)

func TestLBCertLife(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name string
		life time.Duration
		want time.Duration
		days int // that the keyword says
	}{
		{"default", 0, 365 * day, 365},
		{"shortest", MinLBCertLife, MinLBCertLife, 1},
		{"a day", day, day, 1},
		{"a day and a bit", day + time.Second, day + time.Second, 2},
		{"longest", MaxLBCertLife, MaxLBCertLife, keydelivery.MaxDays},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.LBCertLife = tt.life })
			w.create("web")
			w.lbvm()
			launch := w.ec2.launched()[0]
			_, days, wanted, err := keydelivery.ParseUserData(launch.UserData)
			if err != nil || !wanted || days != tt.days || launch.LBCertLife != tt.want {
				t.Errorf("the keyword (%t) says %d days, the life is %s, %v; want %d and %s", wanted, days, launch.LBCertLife,
					err, tt.days, tt.want)
			}
		})
	}
	for _, life := range []time.Duration{MinLBCertLife - 1, MaxLBCertLife + 1, -time.Hour} {
		if err := (Config{LBCertLife: life}).Validate(); err == nil || !strings.Contains(err.Error(), "LBCertLife") {
			t.Errorf("life %s: %v, want an error that names the field", life, err)
		}
	}
}

// TestServoRefusesEndedGuests at once, before the load balancer's record has been told.
func TestServoRefusesEndedGuests(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	now, err := w.describeAs(guest(vm.ID, webRole), vm.ID, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	waits := spy{Context: guest(vm.ID, webRole), begun: make(chan struct{}, 1)}
	go func() {
		_, err := w.describeAs(waits, vm.ID, now.Revision, servo.MaxWait)
		ended <- err
	}()
	<-waits.begun
	w.ec2.change(vm.ID, func(i *ec2.Instance) { i.State = ec2.ShuttingDown })
	if _, err := w.describeAs(guest(vm.ID, webRole), vm.ID, "", 0); code(err) != "AccessDenied" {
		t.Errorf("what it is to serve: %v, want AccessDenied", err)
	}
	if _, _, err := w.PutServoStates(guest(vm.ID, webRole), (&servo.States{}).Form(vm.ID)); code(err) != "AccessDenied" {
		t.Errorf("its report: %v, want AccessDenied", err)
	}
	select {
	case err := <-ended:
		if code(err) != "AccessDenied" {
			t.Errorf("the question under way: %v, want AccessDenied", err)
		}
	case <-time.After(soon):
		t.Error("the question under way goes on")
	}
}

// TestGuestThatEndedUnheard: of one that ended right after its launch the watch may tell the end alone.
func TestGuestThatEndedUnheard(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	vm := w.lbvm()
	w.guests.note(recordKey(alice, "web"), vm.ID, false) // as if its launch had never been told
	w.ec2.mu.Lock()
	ended := w.ec2.instances[vm.ID]
	ended.State = ec2.ShuttingDown
	w.ec2.instances[vm.ID] = ended
	w.ec2.mu.Unlock()
	w.noteInstance(ended)
	if other := w.lbvm(); other.ID == vm.ID {
		t.Error("it was not replaced")
	}
}
