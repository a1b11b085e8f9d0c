package leakscan

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/node/floppy"
)

// TestWhoMayHoldWhat has a process of each role hold all keys.
func TestWhoMayHoldWhat(t *testing.T) {
	var keys []Key
	for _, name := range []string{"NODEPK of a", "NODEPK of b", "USERPK of arn", "LBPK of i-1", "IAMPK"} {
		keys = append(keys, FromSecret(name, random(64)))
	}
	renamed := FromSecret("USERPK of renamed", bytes.Clone(keys[2].forms[0].text))
	same := sameKeys(append(slices.Clone(keys), renamed))
	for _, tt := range []struct {
		name    string
		process Process
		leaks   string
	}{
		{"a node, of its own", Process{Role: Node, Own: []string{"NODEPK of a"}}, "IAMPK, NODEPK of b, USERPK of arn"},
		{"a node, of whichever", Process{Role: Node}, "IAMPK, USERPK of arn"},
		{"a node with simulated guests", Process{Role: Host, Own: []string{"NODEPK of a"}}, "IAMPK, NODEPK of b"},
		{"a cloud", Process{Role: Cloud}, "NODEPK of a, NODEPK of b"},
		{"a cloud with its node", Process{Role: Node, Also: []Role{Cloud}, Own: []string{"NODEPK of a"}}, "NODEPK of b"},
		{"a guest", Process{Role: Guest, May: []string{"LBPK of i-1"}},
			"IAMPK, NODEPK of a, NODEPK of b, USERPK of arn"},
		{"a guest that serves a key by another of its names",
			Process{Role: Guest, May: []string{"LBPK of i-1", "USERPK of renamed"}}, "IAMPK, NODEPK of a, NODEPK of b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var found []string
			for _, key := range keys {
				names := same[key.Name]
				if !slices.ContainsFunc(names, tt.process.mayHold) && !slices.ContainsFunc(names, tt.process.residue) {
					found = append(found, key.Name)
				}
			}
			slices.Sort(found)
			if got := strings.Join(found, ", "); got != tt.leaks {
				t.Errorf("leaks %q, want %q", got, tt.leaks)
			}
		})
	}
}

// TestAProcessThatEnds is no error where it may, and is one where it must be there.
func TestAProcessThatEnds(t *testing.T) {
	child := exec.CommandContext(t.Context(), "true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	keys := []Key{FromSecret("NODEPK", random(64))}
	for _, may := range []bool{true, false} {
		p := Process{Role: Node, Name: "node", PID: child.Process.Pid, Own: []string{"NODEPK"}, MayEnd: may}
		report, err := Run{Keys: keys, Processes: []Process{p}}.Check(t.Context())
		if failed := err != nil || report.Err() != nil; failed == may {
			t.Errorf("may end: %t; error %v, %v", may, err, report.Err())
		}
	}
}

// TestGivenMeanwhile: what a guest was given when its memory has been read is no leak, and what it was not is one.
func TestGivenMeanwhile(t *testing.T) {
	held := random(64)
	keys := []Key{FromSecret("USERPK of arn", held)}
	for given, leaks := range map[string]int{"USERPK of arn": 0, "USERPK of another": 1} {
		p := Process{Role: Guest, Name: "guest", PID: os.Getpid(),
			Given: func() ([]string, error) { return []string{given}, nil }}
		report, err := Run{Keys: keys, Processes: []Process{p}}.Check(t.Context())
		if err != nil || min(len(report.Leaks), 1) != leaks {
			t.Errorf("given %s: %v, %v, want %d", given, report.Leaks, err, leaks)
		}
	}
	runtime.KeepAlive(held)
}

// TestATreeThatGoes is no error where it may, and is one where it must be there.
func TestATreeThatGoes(t *testing.T) {
	for _, may := range []bool{true, false} {
		_, err := Run{Trees: []string{filepath.Join(t.TempDir(), "gone")}, MayGo: may}.Check(t.Context())
		if (err != nil) == may {
			t.Errorf("may go: %t; error %v", may, err)
		}
	}
}

// TestMediaKeys reads the LBPKs of the media of a folder, whatever else is in it.
func TestMediaKeys(t *testing.T) {
	authority, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.SignLBCert("i-1", key.Public(), time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	medium := &keydelivery.Medium{LBCertPEM: cert, LBKey: text, IAMCertPEM: authority.CertificatePEM(),
		CloudCertPEM: authority.CertificatePEM(), Boot: keydelivery.Boot{FormatVersion: keydelivery.BootFormat,
			InstanceID: "i-1", CAPEM: "pem", Region: "us-east-1", Entropy: random(keydelivery.EntropySize),
			Endpoints: map[string]string{"iam": "https://a", "elb": "https://a"}}}
	files, err := medium.Files()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"wiped.img": make([]byte, 1440<<10), "notes": []byte("none")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := MediaKeys(dir); err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v, want none", len(keys), err)
	}
	if keys, err := MediaKeys(filepath.Join(dir, "missing")); err != nil || len(keys) != 0 {
		t.Errorf("of a folder that is not there: %d keys, %v, want none", len(keys), err)
	}
	disk, err := os.Create(filepath.Join(dir, "medium.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(floppy.WriteFile(disk, files), disk.Close()); err != nil {
		t.Fatal(err)
	}
	found, err := MediaKeys(dir)
	if err != nil || len(found) != 1 || found[0].Name != "LBPK of i-1" {
		t.Fatalf("%d keys, %v, want that of i-1", len(found), err)
	}
	if !NewScanner(found).matcher.holds(text) {
		t.Error("it is another key than the medium's")
	}
}
