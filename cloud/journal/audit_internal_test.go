package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestEveryDecisionIsKept drops file after file and finds one event of each kind of decision, and the other kinds gone.
func TestEveryDecisionIsKept(t *testing.T) {
	kinds := []string{
		"delivery.granted", "delivery.denied", "policy.denied", "elb.servo_denied", "elb.granted", "elb.withdrawn",
		"ec2.identity_revoked", "ec2.identity_renewed", "ec2.identity_renewal_failed", "ec2.identity_expired",
		"iam.iamcert_rotated", "iam.iamcert_retired", "node.removed", "node.denied", "node.enrolled",
		"node.enrolment_refused", "node.credentials_refused", "node.report_refused", "node.certificate_renewed",
		"instance.credential", "account.policy_set",
	}
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, limits{file: 2 << 10, kept: 2 << 10})
	if err != nil {
		t.Fatal(err)
	}
	tell := func(kind string, i int) {
		// What a caller chose is in the event too, and must not decide what is kept.
		ev := Event{Kind: kind, Subject: fmt.Sprint(i), Attributes: map[string]string{"a": `"kind":"delivery.granted"`}}
		if err := j.RecordSynced(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	for i, kind := range kinds {
		tell(kind, i)
	}
	for i := range 500 {
		tell("api.request", i)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	found, others := map[string]int{}, 0
	if err := Read(path, func(ev Event) {
		if found[ev.Kind]++; !Audited(ev.Kind) {
			others++
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if found[kind] != 1 {
			t.Errorf("%s is there %d times, want once", kind, found[kind])
		}
	}
	if others == 0 || others >= 500 {
		t.Errorf("%d of the other events are there, want the latest only", others)
	}
}

// TestTheAuditIsCompressed has the audit grow beyond a file's length several times, ends the process in the middle of
// a turn, and finds each decision once and in order.
func TestTheAuditIsCompressed(t *testing.T) {
	const limit, decisions = 2 << 10, 400
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, limits{file: limit, kept: limit})
	if err != nil {
		t.Fatal(err)
	}
	for i := range decisions {
		err := j.RecordSynced(t.Context(), Event{Kind: "delivery.denied", Subject: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	aparts, err := parts(auditOf(path))
	if err != nil || len(aparts) < 3 {
		t.Fatalf("%d parts of the audit, %v, want several", len(aparts), err)
	}
	for _, p := range aparts {
		if info, err := os.Stat(p.name + pressed); err != nil || info.Mode().Perm() != 0o600 || p.plain {
			t.Errorf("%s: %v, %v, want it compressed and of mode 0600", p.name, info, err)
		}
	}
	inOrder := func(when string) {
		next := 0
		err := Read(path, func(ev Event) {
			if ev.Subject != fmt.Sprint(next) {
				t.Errorf("%s: decision %s, want %d", when, ev.Subject, next)
			}
			next++
		})
		if err != nil || next != decisions {
			t.Errorf("%s: %d decisions, %v, want all %d", when, next, err, decisions)
		}
	}
	inOrder("after the turns")
	// A crash after the compressed form was written, and before the plain one went.
	first := aparts[len(aparts)-1].first
	last, err := aparts[len(aparts)-1].open()
	if err != nil {
		t.Fatal(err)
	}
	var lines []byte
	err = eachLine(last, func(line []byte) error { lines = append(lines, line...); return nil })
	if err = errors.Join(err, last.Close()); err != nil {
		t.Fatal(err)
	}
	newer, err := os.ReadFile(auditOf(path))
	if missing(err) != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(auditOf(path), append(lines, newer...), 0o600); err != nil {
		t.Fatal(err)
	}
	inOrder("after a crash")
	if err := turnAudit(path, first); err != nil {
		t.Fatal(err)
	}
	inOrder("after the turn that follows")
}
