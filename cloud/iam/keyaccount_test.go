package iam_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestKeysTellTheirAccount asks for the accounts of keys: of users, of sessions that nobody has used, and of those that
// are none.
func TestKeysTellTheirAccount(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", "")
	ctx := w.root(t, demoAccount)
	name := "alice"
	gone := must(ctx, t, w.CreateAccessKey, &iammodel.CreateAccessKeyInput{UserName: &name}).AccessKey.AccessKeyId
	must(ctx, t, w.DeleteAccessKey, &iammodel.DeleteAccessKeyInput{UserName: &name, AccessKeyId: gone})
	key := must(ctx, t, w.CreateAccessKey, &iammodel.CreateAccessKeyInput{UserName: &name}).AccessKey.AccessKeyId
	session := func(accountID string) string {
		c, _, err := w.MintSession(t.Context(), iam.Session{AccountID: accountID, Life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return c.AccessKeyID
	}
	seen := map[string]bool{}
	for range 100 {
		id := session(demoAccount)
		if seen[id] || len(id) != 20 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
			t.Fatalf("key id %s", id)
		}
		seen[id] = true
	}
	for what, tt := range map[string]struct{ id, account string }{
		"a user's":                  {*key, demoAccount},
		"one that was deleted":      {*gone, demoAccount},
		"a session's":               {session(demoAccount), demoAccount},
		"another's session":         {session(otherAccount), otherAccount},
		"the cloud's":               {session(systemAccount), systemAccount},
		"an unknown account's":      {"ASIAQAAAAAAAAAAAAAAA", ""},
		"of another kind":           {"AIDA" + (*key)[4:], ""},
		"of digits that it has not": {"AKIA0000000000000000", ""},
		"short":                     {(*key)[:16], ""},
	} {
		got, err := w.AccessKeyAccount(t.Context(), tt.id)
		if got != tt.account || (err == nil) != (tt.account != "") {
			t.Errorf("%s, %s: account %q, %v; want %q", what, tt.id, got, err, tt.account)
		}
	}
}
