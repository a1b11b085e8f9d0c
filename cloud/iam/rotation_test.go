package iam_test

import (
	"sync"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestRotationSeenByReplicas: what one replica does, the other one goes by.
func TestRotationSeenByReplicas(t *testing.T) {
	s := newScene(t)
	other := startService(t, s.config)
	told := make(chan struct{}, 8)
	other.OnRotation(func() { told <- struct{}{} })
	old := s.newGuest(t, 2, instanceA)
	before := s.current(t, 2)
	if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); err != nil {
		t.Fatal(err)
	}
	<-told
	if string(other.IAMCertificatePEM()) != string(s.IAMCertificatePEM()) {
		t.Error("the other replica signs by another IAMCERT")
	}
	next := s.newGuest(t, 2, instanceB)
	for name, g := range map[string]*guest{"old": old, "new": next} {
		if err := s.fetch(t, other, g); err != nil {
			t.Errorf("%s guest at the other replica: %v", name, err)
		}
	}
	if _, err := s.RetireIAMCertificate(t.Context(), before.Serial, true, "a test"); err != nil {
		t.Fatal(err)
	}
	late, again := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for code(s.fetch(t, other, old)) != "NotAuthorized" { // until its watch tells it
		select {
		case <-again.C:
		case <-late:
			t.Fatal("the other replica accepts what the retired IAMCERT signed")
		}
	}
	// What the replica had in memory was sealed to the one that is gone.
	if err := s.fetch(t, other, next); err != nil {
		t.Errorf("new guest at the other replica after the retirement: %v", err)
	}
}

// TestRotationUnderLoad uploads, renames, deletes, fetches and rotates at the same time, in two replicas; not one key
// is lost and not one delivery fails.
func TestRotationUnderLoad(t *testing.T) {
	s := newScene(t, func(c *iam.Config) { c.Quotas.ServerCertificates = 1000 })
	other := startService(t, s.config)
	g := s.newGuest(t, 2, instanceA)
	root := s.root(t, demoAccount)
	p := newPair(t, pairSpec{now: s.clock.Now()})
	done := make(chan struct{})
	var work sync.WaitGroup
	for i, replica := range []*iam.Service{s.Service, other} {
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				name := "c" + string(rune('a'+i)) + string(rune('a'+n%26)) + string(rune('a'+n/26%26))
				if _, err := replica.UploadServerCertificate(root, &iammodel.UploadServerCertificateInput{
					ServerCertificateName: &name, CertificateBody: &p.cert, PrivateKey: &p.key}); err != nil {
					t.Errorf("upload: %v", err)
					return
				}
				if n%2 == 0 {
					if _, err := replica.UpdateServerCertificate(root, &iammodel.UpdateServerCertificateInput{
						ServerCertificateName: &name, NewServerCertificateName: model.Ptr(name + "x")}); err != nil {
						t.Errorf("rename: %v", err)
					}
				}
				if n > 60 {
					return
				}
			}
		})
	}
	for range 3 {
		before := s.current(t, 2)
		if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); err != nil {
			t.Fatal(err)
		}
		if err := s.fetch(t, other, g); err != nil {
			t.Errorf("delivery right after a rotation: %v", err)
		}
		g = s.newGuest(t, 2, instanceA)
		if _, err := s.RetireIAMCertificate(t.Context(), before.Serial, true, "a test"); err != nil {
			t.Fatal(err)
		}
		if err := s.fetch(t, s.Service, g); err != nil {
			t.Errorf("delivery right after a retirement: %v", err)
		}
	}
	close(done)
	work.Wait()
	keys, err := iam.OperatorKeys(t.Context(), s.store, s.config.RootKeyFile)
	if err != nil {
		t.Errorf("a key is lost: %v", err)
	}
	if len(keys) < 3 {
		t.Errorf("only %d keys are there", len(keys))
	}
}
