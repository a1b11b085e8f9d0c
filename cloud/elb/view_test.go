package elb

import "testing"

func TestViewForgets(t *testing.T) {
	var v view
	v.init()
	lb := LoadBalancer{
		AccountID: alice, Name: "web", Listeners: []Listener{{CertificateARN: certA}}, Backends: []string{"i-1"},
		LBVMs: []LBVM{{InstanceID: "i-2"}},
	}
	check := func(what string, want int) {
		t.Helper()
		_, served := v.servedBy("i-2")
		if len(v.naming(certA)) != want || len(v.using("i-1")) != want || served != (want == 1) {
			t.Errorf("%s: named by %v, used by %v, served %v; want %d of each", what, v.naming(certA), v.using("i-1"),
				served, want)
		}
	}
	v.set(lb.key(), &lb)
	check("a record", 1)
	v.set(lb.key(), &LoadBalancer{AccountID: alice, Name: "web"})
	check("the record without them", 0)
	v.set(lb.key(), &lb)
	v.set(lb.key(), nil)
	check("no record", 0)
	v.set(lb.key(), &lb)
	if keys := v.reset(nil); len(keys) != 1 || keys[0] != lb.key() {
		t.Errorf("a new beginning names %v, want the one that is gone", keys)
	}
	check("a new beginning without it", 0)
}
