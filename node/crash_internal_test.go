package node

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// step does one thing of a renewal on the disk; after each a process may end.
type step struct {
	name string
	do   func(t *testing.T, a *authority, r *renewer)
}

// TestACrashAtAnyPoint ends the process after each step of a renewal, also between the steps of replacing files, and
// lets the next one go on. At each of them the folder must hold a certificate that the cloud takes.
func TestACrashAtAnyPoint(t *testing.T) {
	rename := func(from, to string) func(*testing.T, *authority, *renewer) {
		return func(t *testing.T, _ *authority, r *renewer) {
			if err := os.Rename(filepath.Join(r.ring.dir, from), filepath.Join(r.ring.dir, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	steps := []step{
		{"next key kept", func(t *testing.T, _ *authority, r *renewer) {
			if _, _, err := r.ring.prepare(); err != nil {
				t.Fatal(err)
			}
		}},
		{"signed by the cloud", func(t *testing.T, a *authority, r *renewer) {
			_, csr, err := r.ring.prepare()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.ask(t.Context(), csr); err != nil {
				t.Fatal(err)
			}
		}},
		{"next certificate kept", func(t *testing.T, a *authority, r *renewer) {
			if _, err := r.ring.accept(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.next.Raw})); err != nil {
				t.Fatal(err)
			}
		}},
		{"taken by the cloud", func(t *testing.T, a *authority, r *renewer) {
			_, next := r.ring.now()
			if _, err := a.show(t.Context(), next, nil); err != nil {
				t.Fatal(err)
			}
		}},
		{"old key put aside", func(t *testing.T, _ *authority, r *renewer) {
			present, _ := r.ring.now()
			if err := writeKey(r.ring.dir, "node.old-2.key", present.key); err != nil {
				t.Fatal(err)
			}
		}},
		{"key replaced", rename(nextKeyFile, keyFile)},
		{"certificate replaced", rename(nextCertFile, certFile)},
	}
	for n := range steps {
		t.Run(steps[n].name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, dir := newAuthority(t), t.TempDir()
				a.enrol(dir)
				first := a.present
				r := a.process(dir)
				for _, s := range steps[:n+1] {
					s.do(t, a, r)
				}
				r = a.process(dir)
				if present, next := r.ring.now(); !present.cert.Equal(a.present) &&
					(next == nil || next.cert == nil || !next.cert.Equal(a.present)) {
					t.Fatal("the folder holds no certificate that the cloud takes")
				}
				stop := run(r)
				time.Sleep(time.Minute)
				synctest.Wait()
				a.wantPresent(r, "in the end")
				if a.present.Equal(first) {
					t.Error("the renewal did not go on")
				}
				stop()
				// And the process after that one finds nothing to do.
				r = a.process(dir)
				a.wantPresent(r, "later")
				files(t, dir)
			})
		})
	}
}
