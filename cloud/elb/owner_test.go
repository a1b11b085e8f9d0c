package elb

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

const linkedToAlice = "9" + "11111111111"

func TestOwner(t *testing.T) {
	for _, tc := range []struct {
		owner             Owner
		account, profiles string
		hidden            bool
		asked             []string
	}{
		{"", system, "", false, nil},
		{OwnerSystem, system, "", false, nil},
		{OwnerUser, alice, system, true, []string{alice}},
		{OwnerLinked, linkedToAlice, system, false, []string{linkedToAlice}},
	} {
		t.Run("owner "+string(tc.owner), func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Owner = tc.owner })
			w.create("web")
			vm := w.lbvm()
			l := w.ec2.launched()[0]
			if l.AccountID != tc.account || l.ProfileAccountID != tc.profiles || l.Hidden != tc.hidden || l.OwnedFor != alice ||
				!l.System {
				t.Errorf("launched in %s with a profile of %q, hidden %t, for %s", l.AccountID, l.ProfileAccountID, l.Hidden,
					l.OwnedFor)
			}
			// Its role, which can fetch keys, is the system account's in any case.
			if r := w.iam.made[webRole]; r.AccountID != system {
				t.Errorf("the LBVM's role is in %s", r.AccountID)
			}
			must[any](w, alice, "DeleteLoadBalancer", "LoadBalancerName", "web")
			w.eventually("the LBVM's end", func() bool {
				inst, err := w.ec2.Instance(t.Context(), vm.ID)
				return err == nil && inst.State == ec2.Terminated
			})
			var want []string
			for _, account := range tc.asked {
				who := "arn:aws:sts::" + account + ":assumed-role/" + ownerRole + "/" + alice + "@web "
				what := " arn:aws:ec2:us-east-1:" + account + ":instance/"
				want = append(want, who+actionRun+what+"*", who+actionTerminate+what+vm.ID)
			}
			w.iam.mu.Lock()
			defer w.iam.mu.Unlock()
			if got := slices.Compact(w.iam.asked); !slices.Equal(got, want) {
				t.Errorf("asked for\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestOwnerChanged: a cloud that is started with another owner keeps the LBVMs that run, replaces and ends them.
func TestOwnerChanged(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	before := w.lbvm()
	w.Close()
	w.cfg.Owner = OwnerUser
	w.start()
	w.ec2.end(before.ID)
	w.eventually("an LBVM in the user's account", func() bool {
		launched := w.ec2.launched()
		return len(launched) > 1 && launched[1].AccountID == alice
	})
}

// TestOwnerRefused: a role that was made powerless stops elb from acting, and nothing is launched.
func TestOwnerRefused(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Owner = OwnerUser })
	w.iam.forbid = actionRun
	w.create("web")
	w.eventually("a refusal", func() bool {
		w.iam.mu.Lock()
		defer w.iam.mu.Unlock()
		return w.iam.denied > 0
	})
	if n := len(w.ec2.launched()); n != 0 {
		t.Errorf("%d launches", n)
	}
}

// TestForgedOwnerTag: a user's instance with elb's tag is no LBVM, and never ended.
func TestForgedOwnerTag(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Owner = OwnerUser })
	w.create("web")
	w.lbvm()
	tags := map[string]string{ownerTag: recordKey(alice, "web")}
	for _, inst := range []ec2.Instance{
		{AccountID: alice, State: ec2.Running, Tags: tags},
		{AccountID: bob, State: ec2.Running, Tags: tags, System: true},
	} {
		if w.ours(&inst) {
			t.Errorf("%+v counts as an LBVM", inst)
		}
	}
}
