package drivertest

import (
	"bytes"
	"errors"
	"os"
	"sync"

	. "github.com/onsi/gomega" //nolint:staticcheck // the language of the suite

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// rehearsals are those that a driver had of the copies that it keeps ready.
type rehearsals struct {
	mu    sync.Mutex
	media []string // their media's paths
	over  int
}

// with makes copies obey a medium and say so. A copy that is taken in the middle of that, or with that medium still in
// its drive, says other things than it should.
func (r *rehearsals) with() *hypervisor.Rehearsal {
	return &hypervisor.Rehearsal{
		Medium: func(path string) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.media) > 0 && r.media[len(r.media)-1] == path {
				return errors.New("two copies rehearse with one medium")
			}
			r.media = append(r.media, path)
			return os.WriteFile(path, image("recall"), 0o600)
		},
		Done: func(line []byte) bool {
			over := bytes.Contains(line, []byte("remembered nothing"))
			if over {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.over++
			}
			return over
		},
	}
}

// areOver checks that there were as many as copies, and that none of their media is left.
func (r *rehearsals) areOver(copies int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	Expect(r.media).To(HaveLen(copies))
	Expect(r.over).To(Equal(copies))
	for _, path := range r.media {
		Expect(path).NotTo(BeAnExistingFile())
	}
}
