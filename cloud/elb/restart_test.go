package elb

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

// TestRestart writes what a process leaves that ends between two steps, and starts the service on it.
func TestRestart(t *testing.T) {
	tests := []struct {
		name   string
		before func(*testing.T, *world)
		after  func(*testing.T, *world)
	}{
		{
			name: "record written, nothing else",
			before: func(t *testing.T, w *world) {
				w.put(t, func(lb *LoadBalancer) { lb.Granted = lb.grants() })
			},
			after: func(t *testing.T, w *world) {
				w.lbvm()
				if got, _ := w.iam.policies(webRole); !slices.Equal(got, []string{webPolicy + "a"}) {
					t.Errorf("policies %v", got)
				}
			},
		},
		{
			name: "grant put, listener not changed",
			before: func(t *testing.T, w *world) {
				w.put(t, func(lb *LoadBalancer) {
					lb.Prepared, lb.Granted = true, map[string]string{webPolicy + "a": certA, webPolicy + "b": certB}
				})
				w.iam.setRole(webRole, map[string]string{webPolicy + "a": "x", webPolicy + "b": "x"})
			},
			after: func(_ *testing.T, w *world) {
				w.eventually("the grant that no listener needs is gone", func() bool {
					got, _ := w.iam.policies(webRole)
					return slices.Equal(got, []string{webPolicy + "a"})
				})
			},
		},
		{
			name: "grant of another certificate of the same name put, listener not changed",
			before: func(t *testing.T, w *world) {
				moved := "arn:aws:iam::" + alice + ":server-certificate/moved/a"
				w.put(t, func(lb *LoadBalancer) {
					lb.Prepared, lb.Granted = true, map[string]string{webPolicy + "a": moved}
				})
				w.iam.setRole(webRole, map[string]string{webPolicy + "a": moved})
			},
			after: func(t *testing.T, w *world) {
				w.eventually("the grant is the listener's again", func() bool {
					lb, err := w.records.Get(t.Context(), recordKey(alice, "web"))
					return err == nil && lb.Granted[webPolicy+"a"] == certA &&
						strings.Contains(w.iam.grant(webRole, webPolicy+"a"), certA)
				})
			},
		},
		{
			name: "LBVM launched, not noted down",
			before: func(t *testing.T, w *world) {
				lb := w.put(t, func(lb *LoadBalancer) { lb.Prepared, lb.Granted = true, lb.grants() })
				inst := w.ec2.add(ec2.Instance{
					AccountID: system, System: true, State: ec2.Running, Tags: map[string]string{ownerTag: lb.key()},
				})
				w.ec2.tokens["elb-"+lb.ID+"-0"] = inst.ID
			},
			after: func(t *testing.T, w *world) {
				w.lbvm()
				if n := len(w.ec2.launched()); n != 0 {
					t.Errorf("%d further launches", n)
				}
			},
		},
		{
			name: "LBVM of a load balancer that is gone",
			before: func(_ *testing.T, w *world) {
				w.ec2.add(ec2.Instance{
					AccountID: system, System: true, State: ec2.Running, Tags: map[string]string{ownerTag: alice + "/gone"},
				})
			},
			after: func(_ *testing.T, w *world) {
				w.eventually("it ends", func() bool { return len(w.ec2.lbvms()) == 0 })
			},
		},
		{
			name: "deletion begun",
			before: func(t *testing.T, w *world) {
				inst := w.ec2.add(ec2.Instance{AccountID: system, System: true, State: ec2.Running})
				w.put(t, func(lb *LoadBalancer) { lb.Deleting, lb.LBVMs = true, []LBVM{{InstanceID: inst.ID}} })
				w.iam.setRole(webRole, map[string]string{})
			},
			after: func(_ *testing.T, w *world) {
				w.eventually("nothing is left", func() bool {
					keys, err := w.records.Keys(w.t.Context(), "")
					_, role := w.iam.policies(webRole)
					return err == nil && len(keys) == 0 && !role && len(w.ec2.lbvms()) == 0
				})
			},
		},
		{
			name: "back-end instance ended meanwhile",
			before: func(t *testing.T, w *world) {
				id, gone := w.ec2.run(alice), w.ec2.run(alice)
				w.ec2.end(gone)
				w.put(t, func(lb *LoadBalancer) {
					lb.Prepared, lb.Granted, lb.Backends = true, lb.grants(), []string{gone, id, "i-never"}
				})
			},
			after: func(_ *testing.T, w *world) {
				w.eventually("only the live one is registered", func() bool {
					lb, err := w.get(as(alice), "web")
					return err == nil && len(lb.Backends) == 1
				})
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.Close()
			tt.before(t, w)
			w.start()
			tt.after(t, w)
		})
	}
}

// put writes a load balancer's record behind the service's back.
func (w *world) put(t *testing.T, alter func(*LoadBalancer)) LoadBalancer {
	t.Helper()
	lb := LoadBalancer{
		AccountID: alice, Name: "web", ID: "0123", Address: "127.64.0.9", Created: time.Now(),
		Listeners: []Listener{{
			Protocol: "HTTPS", Port: 443, InstanceProtocol: "HTTP", InstancePort: 80, CertificateARN: certA,
		}},
	}
	alter(&lb)
	if err := w.records.Put(t.Context(), lb.key(), lb); err != nil {
		t.Fatal(err)
	}
	return lb
}
