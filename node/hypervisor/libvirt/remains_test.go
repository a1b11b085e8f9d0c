package libvirt

import (
	"bytes"
	"fmt"
	"testing"
)

func TestRemainsOfTheLastKilled(t *testing.T) {
	var r remains
	r.forget("i-0") // which nobody knows
	for i := range keepRemains + 2 {
		r.keep(fmt.Sprintf("i-%d", i), map[string][]byte{"domain.xml": fmt.Appendf(nil, "domain %d", i)})
	}
	r.keep("i-2", map[string][]byte{"qemu.log": append(bytes.Repeat([]byte("x"), maxRemains), "end"...)})
	r.keep("i-last", nil)
	r.forget("i-5")
	for id, want := range map[string]string{
		"i-0": "", "i-1": "", "i-3": "", // the oldest
		"i-2": "", // noted again, without a domain
		"i-4": "domain 4", "i-5": "", "i-6": "domain 6", "i-65": "domain 65", "i-none": "",
	} {
		if got := string(r.of(id)["domain.xml"]); got != want {
			t.Errorf("of %s %q is kept, want %q", id, got, want)
		}
	}
	log := r.of("i-2")["qemu.log"]
	if len(log) != maxRemains || !bytes.HasSuffix(log, []byte("xend")) {
		t.Errorf("%d bytes of a log are kept, want its last %d", len(log), maxRemains)
	}
	r.of("i-4")["domain.xml"] = nil
	if got := string(r.of("i-4")["domain.xml"]); got != "domain 4" {
		t.Errorf("what a caller does to what it got changed what is kept: %q", got)
	}
	if len(r.files) != len(r.order) || len(r.order) != keepRemains-1 {
		t.Errorf("%d machines and %d in order, want %d", len(r.files), len(r.order), keepRemains-1)
	}
}
