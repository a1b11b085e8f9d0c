package iam_test

import (
	"errors"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

func TestCreateAccount(t *testing.T) {
	s := newWorld(t)
	made, err := s.CreateAccount(t.Context(), iam.NewAccount{Name: "research"})
	if err != nil || len(made.ID) != 12 || made.ID[0] == '0' || made.System {
		t.Fatalf("made %+v, %v", made, err)
	}
	fixed, err := s.CreateAccount(t.Context(), iam.NewAccount{Name: "fixed", ID: "012345678901"})
	if err != nil || fixed.ID != "012345678901" {
		t.Fatalf("made %+v, %v", fixed, err)
	}
	for _, tc := range []struct {
		name string
		in   iam.NewAccount
		want error
	}{
		{"name of an account that the cloud began with", iam.NewAccount{Name: "other"}, iam.ErrAccountExists},
		{"name taken", iam.NewAccount{Name: "research"}, iam.ErrAccountExists},
		{"number taken", iam.NewAccount{Name: "another", ID: fixed.ID}, iam.ErrAccountExists},
		{"short number", iam.NewAccount{Name: "another", ID: "12"}, iam.ErrAccountInput},
		{"no name", iam.NewAccount{}, iam.ErrAccountInput},
		{"name like a number", iam.NewAccount{Name: "012345678902"}, iam.ErrAccountInput},
		{"slash", iam.NewAccount{Name: "a/b"}, iam.ErrAccountInput},
	} {
		if _, err := s.CreateAccount(t.Context(), tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	for _, key := range []string{"research", made.ID} {
		if found, err := s.FindAccount(t.Context(), key); err != nil || found.ID != made.ID {
			t.Errorf("find %s: %+v, %v", key, found, err)
		}
	}
	if _, err := s.FindAccount(t.Context(), "another"); !errors.Is(err, iam.ErrNoAccount) {
		t.Errorf("an account that was refused: %v", err)
	}
	first, err := s.LinkedAccount(t.Context(), "elb-", made.ID)
	again, err2 := s.LinkedAccount(t.Context(), "elb-", made.ID)
	if err != nil || err2 != nil || first.ID != again.ID || !first.System || first.LinkedTo != made.ID {
		t.Errorf("linked %+v, %v, then %+v, %v", first, err, again, err2)
	}
}
