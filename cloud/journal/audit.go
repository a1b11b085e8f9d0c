package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// decisions are the kinds of events that the audit keeps for ever: whom the cloud gave or refused a key, a credential,
// a permission or an identity, and what it withdrew. One that ends with a dot or an underscore stands for all that
// begin so.
var decisions = []string{
	"account.", "delivery.", "ec2.identity_", "elb.assumed_role", "elb.granted", "elb.servo_denied", "elb.withdrawn",
	"iam.iamcert_", "instance.credential", "node.certificate_", "node.credentials_refused", "node.denied",
	"node.enrolled", "node.enrolment_refused", "node.identity_unsigned", "node.removed", "node.renewal_refused",
	"node.report_refused", "operator.request", "policy.denied",
}

// Audited says whether an event of a kind is a decision, which is kept when the journal drops what is old.
func Audited(kind string) bool {
	return slices.ContainsFunc(decisions, func(one string) bool {
		return kind == one || strings.HasSuffix(one, ".") && strings.HasPrefix(kind, one) ||
			strings.HasSuffix(one, "_") && strings.HasPrefix(kind, one)
	})
}

// kindOf is the kind in an event's line, without reading the rest of it. A text in a line cannot pass for it: the kind
// comes before all that callers choose, and quotes within texts are escaped.
func kindOf(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte(`"kind":"`))
	kind, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(kind)
}

// auditOf names the file of the decisions that were in files which are kept no longer. When it is long it is put aside
// and compressed, as the journal is; of what was put aside nothing is dropped.
func auditOf(path string) string { return path + ".audit" }

// keepAudit takes the decisions over from a file that is dropped next; an audit longer than largest is put aside, in
// bytes. A crash in between makes it take them twice, which a reader can tell by their numbers; none is lost.
func keepAudit(path string, p part, largest int64) error {
	old, err := p.open()
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	var kept bytes.Buffer
	err = eachLine(old, func(line []byte) error {
		if Audited(kindOf(line)) {
			kept.Write(line)
		}
		return nil
	})
	if err != nil || kept.Len() == 0 {
		return err
	}
	audit, err := os.OpenFile(auditOf(path), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	_, err = audit.Write(kept.Bytes())
	size, first := int64(0), uint64(0)
	if err = errors.Join(err, dataSync(audit)); err == nil {
		size, first, err = lengthOf(audit)
	}
	if err = errors.Join(err, audit.Close()); err != nil || size <= largest {
		return err
	}
	return turnAudit(path, first)
}

// lengthOf returns a file's size, in bytes, and the number of its first event.
func lengthOf(f *os.File) (size int64, first uint64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	first, err = firstIn(io.NewSectionReader(f, 0, info.Size()))
	return info.Size(), first, err
}

// turnAudit puts the audit aside. Its compressed form is there before the plain one goes; a crash in between leaves
// both, and the next turn writes the compressed one again, with all that the plain one has.
func turnAudit(path string, first uint64) error {
	plain := auditOf(path)
	if err := os.Remove(aside(plain, first)); missing(err) != nil {
		return err
	}
	if err := os.Link(plain, aside(plain, first)); err != nil {
		return err
	}
	encoder, err := newEncoder()
	if err != nil {
		return err
	}
	if err := (part{name: aside(plain, first), first: first, plain: true}).press(encoder); err != nil {
		return err
	}
	return os.Remove(plain)
}

// scanAudit hands on the audit's events whose numbers are from and more, and less than before, each once.
func scanAudit(path string, from, before uint64, wanted func(line []byte) bool, handle func(Event)) error {
	// Opened first: if it is put aside meanwhile, it is read all the same.
	newest, err := os.Open(auditOf(path))
	if missing(err) != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	last := uint64(0)
	once := func(ev Event) {
		if (ev.Seq > last || ev.Seq == 0) && ev.Seq >= from && ev.Seq < before {
			last = ev.Seq
			handle(ev)
		}
	}
	list, err := parts(auditOf(path))
	for i := 0; i < len(list) && err == nil; i++ {
		var f io.ReadCloser
		if f, err = list[i].open(); err == nil {
			err = errors.Join(scan(f, wanted, once), f.Close())
		}
	}
	if newest != nil {
		if err == nil {
			err = scan(newest, wanted, once)
		}
		err = errors.Join(err, newest.Close())
	}
	if err != nil {
		return fmt.Errorf("read the audit: %w", err)
	}
	return nil
}
