package demo

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// Report is what the demo found.
type Report struct {
	CertificateARN      string    `json:"certificateArn"`
	LoadBalancer        string    `json:"loadBalancer"`
	Address             string    `json:"address"` // host:port a client connects to
	LBVM                string    `json:"lbvm"`
	UploadedFingerprint string    `json:"uploadedFingerprint"` // SHA-256 of the leaf, hex
	ServedFingerprint   string    `json:"servedFingerprint"`
	Chain               []Link    `json:"chain"`
	TLS                 string    `json:"tls"` // version and cipher suite
	Answers             []Answer  `json:"answers"`
	Timings             []Timing  `json:"timings"`
	Started             time.Time `json:"started"`
	Seconds             float64   `json:"seconds"`
	Evidence            string    `json:"evidence"` // folder
	Failure             string    `json:"failure,omitempty"`

	served []*x509.Certificate
}

// Link is one certificate of the chain that was served.
type Link struct {
	Subject string    `json:"subject"`
	Issuer  string    `json:"issuer"`
	Expires time.Time `json:"expires"`
}

// Answer is one backend's response.
type Answer struct {
	InstanceID string `json:"instanceId"`
	Status     string `json:"status"`
	Text       string `json:"text"`
}

// Timing is how long one step took.
type Timing struct {
	Number  string  `json:"number,omitempty"`
	Title   string  `json:"title"`
	Seconds float64 `json:"seconds"`
}

func (r *Report) setServed(chain []*x509.Certificate) {
	r.served, r.Chain, r.ServedFingerprint = chain, nil, pki.Fingerprint(chain[0])
	for _, cert := range chain {
		r.Chain = append(r.Chain, Link{Subject: cert.Subject.String(), Issuer: cert.Issuer.String(), Expires: cert.NotAfter})
	}
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nserved at %s by %s over %s\n", r.Address, r.LBVM, r.TLS)
	for _, link := range r.Chain {
		fmt.Fprintf(&b, "  %s, issued by %s, until %s\n", link.Subject, link.Issuer, link.Expires.Format(time.DateOnly))
	}
	same := "the same"
	if r.ServedFingerprint != r.UploadedFingerprint {
		same = "DIFFERENT"
	}
	fmt.Fprintf(
		&b,
		"fingerprint (SHA-256), %s\n  uploaded %s\n  served   %s\n",
		same,
		r.UploadedFingerprint,
		r.ServedFingerprint,
	)
	b.WriteString("answers of the backends\n")
	for _, a := range r.Answers {
		fmt.Fprintf(&b, "  %s  %s  %q\n", a.InstanceID, a.Status, a.Text)
	}
	b.WriteString("timing\n")
	for _, t := range r.Timings {
		fmt.Fprintf(&b, "  %-48s %6.2f s\n", line(Step{t.Number, t.Title}), t.Seconds)
	}
	fmt.Fprintf(&b, "  %-48s %6.2f s\nevidence in %s\n", "   all", r.Seconds, r.Evidence)
	_, _ = io.WriteString(w, b.String())
}

// collect copies the consoles and the journal and writes the report into the evidence folder. It carries no
// secret: the chain is what any client sees.
func (r *Report) collect(status operator.Status, events string) error {
	consoles := filepath.Join(r.Evidence, "consoles")
	// What an earlier run left would be mistaken for this one's.
	if err := os.RemoveAll(consoles); err != nil {
		return fmt.Errorf("empty evidence folder: %w", err)
	}
	if err := os.MkdirAll(consoles, 0o750); err != nil {
		return fmt.Errorf("make evidence folder: %w", err)
	}
	var errs []error
	for _, i := range status.Instances {
		if i.ConsolePath == "" {
			continue
		}
		name := i.ID + ".log"
		if i.Name != "" {
			name = strings.Map(fileName, i.Name) + "-" + name
		}
		if err := copyFile(filepath.Join(consoles, name), i.ConsolePath); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err) // a guest that never started has none
		}
	}
	errs = append(errs, copyJournal(filepath.Join(r.Evidence, "journal.jsonl"), events))
	text, err := json.MarshalIndent(r, "", "  ")
	errs = append(errs, err, os.WriteFile(filepath.Join(r.Evidence, "report.json"), append(text, '\n'), 0o600))
	var chain []byte
	for _, cert := range r.served {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	if len(chain) > 0 {
		errs = append(errs, os.WriteFile(filepath.Join(r.Evidence, "served-chain.pem"), chain, 0o600))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("collect evidence: %w", err)
	}
	return nil
}

func fileName(r rune) rune {
	if r == '/' || r < ' ' {
		return '-'
	}
	return r
}

// copyJournal copies the journal's lines: a cloud that runs has room for more behind them.
func copyJournal(to, from string) error {
	var lines bytes.Buffer
	if err := journal.Copy(&lines, from); err != nil {
		return err
	}
	return os.WriteFile(to, lines.Bytes(), 0o600)
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600) //nolint:gosec // the evidence folder is the user's choice
}
