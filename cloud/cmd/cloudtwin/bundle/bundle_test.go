package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/events"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

var begin = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

// state is a folder as a cloud with two guests leaves it.
func state(t *testing.T) Source {
	t.Helper()
	dir := t.TempDir()
	j, err := journal.Open(local.Layout(dir).Journal())
	if err != nil {
		t.Fatal(err)
	}
	for i, ev := range []journal.Event{
		{Kind: "elb.lbvm_launched", Subject: "123456789012/shop", Attributes: map[string]string{"instance": "i-1"}},
		{Kind: "instance.state", Subject: "i-1", Attributes: map[string]string{"state": "pending", "image": "lbvm"}},
		{Kind: "instance.state", Subject: "i-2", Attributes: map[string]string{"state": "pending", "image": "web"}},
		{Kind: "guest.milestone", Subject: "i-1", Attributes: map[string]string{"stage": "machine-started", "guests": "fork",
			"at": begin.Add(1500 * time.Millisecond).Format(time.RFC3339Nano)}},
		{Kind: "guest.milestone", Subject: "i-2", Attributes: map[string]string{"stage": "failed", "reason": "no medium"}},
		{Kind: "delivery.denied", Subject: "arn", Attributes: map[string]string{"instance": "i-2", "reason": "replayed"}},
		{Kind: "api.request", Subject: "iam:ListUsers", Attributes: map[string]string{"status": "200"}},
	} {
		ev.Time = begin.Add(time.Duration(i) * time.Second)
		j.Record(t.Context(), ev)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	images, libvirt := t.TempDir(), local.Layout(dir).LibvirtRoot()
	t.Cleanup(func() { // it may be beside the folder
		if err := os.RemoveAll(libvirt); err != nil {
			t.Error(err)
		}
	})
	for path, text := range map[string]string{
		filepath.Join(dir, "node", "machines", "i-1", "console.log"):   "one says </script>\n",
		filepath.Join(dir, "node", "machines", "i-2", "console.log"):   "two says hello\n",
		filepath.Join(dir, "node", "machines", "i-1", "instance.json"): "holds a sealed credential",
		filepath.Join(dir, "node", "machines", "i-1", "frames.pcap"):   "headers",
		filepath.Join(dir, "node", "ended", "i-3.console.log"):         "three said goodbye",
		local.Layout(dir).Faults():                                     `{"version":1,"seed":7,"faults":[]}`,
		filepath.Join(dir, "node", "node.key"):                         "NODEPK",
		filepath.Join(dir, "cloud", "root.key"):                        "the root key",
		filepath.Join(libvirt, "run", "qemu", "ct-pool-x.xml"):         "<domain>i-1</domain>",
		filepath.Join(libvirt, "log", "qemu", "ct-i-2.log"):            "qemu of i-2",
		filepath.Join(libvirt, "lib", "qemu", "d", "master-key.aes"):   "libvirt's",
		filepath.Join(images, "lbvm", "manifest.json"):                 "{}",
		filepath.Join(images, "lbvm", "vmlinux"):                       "a kernel",
		local.Layout(dir).Log():                                        "endpoint",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return Source{State: local.Layout(dir), Images: images}
}

func write(t *testing.T, src Source) *Bundle {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.zip")
	if _, err := Write(t.Context(), path, src, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
	return b
}

func names(b *Bundle) (out []string) {
	for _, f := range b.Manifest.Files {
		out = append(out, f.Name)
	}
	return out
}

func TestWriteTakesEvidenceAndNothingElse(t *testing.T) {
	src := state(t)
	src.Status = &operator.Status{Region: "us-east-1"}
	b := write(t, src)
	want := []string{"events/000001.jsonl", "faults.json", "guests/i-1/console.log", "guests/i-1/frames.pcap",
		"guests/i-2/console.log", "guests/i-3/console.log", "images/lbvm.json",
		"logs/libvirt/ct-i-2.log", "logs/libvirt/ct-pool-x.xml", "logs/up.log", "status.json"}
	if got := names(b); !reflect.DeepEqual(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	status, err := b.Status()
	if err != nil || status.Region != "us-east-1" {
		t.Errorf("status %v, %v", status, err)
	}
}

// TestWriteTakesNoOtherFile has a node name files as consoles that are none, and put a link in the place of one.
func TestWriteTakesNoOtherFile(t *testing.T) {
	src := state(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hidden"), 0o600); err != nil {
		t.Fatal(err)
	}
	src.Status = &operator.Status{Instances: []operator.Instance{
		{ID: "i-8", ConsolePath: secret}, {ID: "i-9", ConsolePath: filepath.Join(string(src.State), "machines", "i-1",
			consoleFile)},
	}}
	b := write(t, src)
	for _, name := range names(b) {
		if strings.Contains(name, "i-8") || strings.Contains(name, "i-9") {
			t.Errorf("%s is in the bundle", name)
		}
	}
	link := filepath.Join(src.State.Node(), "machines", "i-2", consoleFile)
	if err := errors.Join(os.Remove(link), os.Symlink(secret, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), filepath.Join(t.TempDir(), "b.zip"), src, nil); err == nil {
		t.Error("a link was followed")
	}
}

func TestWriteOfOneLoadBalancer(t *testing.T) {
	src := state(t)
	src.Selection = events.Selection{LoadBalancer: "shop"}
	b := write(t, src)
	want := []string{"events/000001.jsonl", "faults.json", "guests/i-1/console.log", "guests/i-1/frames.pcap",
		"images/lbvm.json", "logs/libvirt/ct-pool-x.xml", "logs/up.log"}
	if got := names(b); !reflect.DeepEqual(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if status, err := b.Status(); status != nil || err != nil {
		t.Errorf("status %v, %v of a cloud that does not run", status, err)
	}
	if !reflect.DeepEqual(b.Manifest.Selected, map[string]string{"lb": "shop"}) {
		t.Errorf("selected %v", b.Manifest.Selected)
	}
}

func TestWriteTakesALongConsolesEnd(t *testing.T) {
	src := state(t)
	text := append(bytes.Repeat([]byte("x"), mostOfLog), "the end"...)
	if err := os.WriteFile(filepath.Join(src.State.Node(), "machines", "i-1", "console.log"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	consoles, err := write(t, src).Consoles()
	if got := consoles["i-1"]; err != nil || len(got) != mostOfLog || !strings.HasSuffix(got, "the end") {
		t.Errorf("%d bytes of the console, %v", len(got), err)
	}
}

func TestWriteRefusesAPrivateKey(t *testing.T) {
	src := state(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	known, err := leakscan.NewKey("USERPK of arn", text)
	if err != nil {
		t.Fatal(err)
	}
	console := filepath.Join(src.State.Node(), "machines", "i-2", "console.log")
	path := filepath.Join(t.TempDir(), "b.zip")
	if err := os.WriteFile(console, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Write(t.Context(), path, src, []leakscan.Key{known})
	if !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "guests/i-2/console.log") ||
		!strings.Contains(err.Error(), "USERPK of arn") {
		t.Errorf("error %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(console, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), path, src, []leakscan.Key{known}); err != nil {
		t.Errorf("without the key: %v", err)
	}
}

func TestWriteOfNothing(t *testing.T) {
	src := Source{State: local.Layout(t.TempDir()), Images: t.TempDir()}
	if _, err := Write(t.Context(), filepath.Join(t.TempDir(), "b.zip"), src, nil); !errors.Is(err, ErrNothing) {
		t.Errorf("error %v, want %v", err, ErrNothing)
	}
}

func TestReport(t *testing.T) {
	b := write(t, state(t))
	r, err := b.Report()
	if err != nil {
		t.Fatal(err)
	}
	if r.Events != 7 || r.Kinds["instance.state"] != 2 || !r.From.Equal(begin) || !r.To.Equal(begin.Add(6*time.Second)) {
		t.Errorf("report %+v", r)
	}
	if len(r.Guests) != 2 || r.Guests[0].ID != "i-1" || r.Guests[0].How != "fork" ||
		!r.Guests[0].Stages[1].At.Equal(begin.Add(1500*time.Millisecond)) {
		t.Errorf("guests %+v", r.Guests)
	}
	kinds := []string{}
	for _, ev := range r.Troubles {
		kinds = append(kinds, ev.Kind)
	}
	if !slices.Equal(kinds, []string{"guest.milestone", "delivery.denied"}) {
		t.Errorf("troubles %v", kinds)
	}
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7 events in 6s", "i-1  lbvm  fork", "machine-started", "2 events tell of trouble"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
}

func TestPageCannotBeBrokenOutOf(t *testing.T) {
	var page bytes.Buffer
	if err := write(t, state(t)).WritePage(&page); err != nil {
		t.Fatal(err)
	}
	if strings.Count(page.String(), "</script>") != 2 || !strings.Contains(page.String(), "two says hello") {
		t.Errorf("the console is not in the page's data:\n%s", &page)
	}
	if strings.Contains(page.String(), "http://") || strings.Contains(page.String(), "https://") {
		t.Error("the page asks the network")
	}
}

func TestOpenBadInput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "good.zip")
	if _, err := Write(t.Context(), path, state(t), nil); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"no archive":           {[]byte("hello"), "no zip archive"},
		"cut short":            {good[:len(good)/2], "cut short"},
		"no manifest":          {rewrite(t, good, without(manifestFile)), manifestFile},
		"another format":       {rewrite(t, good, replace(manifestFile, `"format": 2`, `"format": 9`)), "its format is 9"},
		"manifest is not JSON": {rewrite(t, good, replace(manifestFile, `{`, `}`)), "its manifest.json"},
		"a file is missing":    {rewrite(t, good, without(partName(1))), "events/000001.jsonl is missing"},
		"a file is longer":     {rewrite(t, good, replace(partName(1), "elb", "elbow")), "its manifest says"},
		"a file is altered":    {rewrite(t, good, replace(partName(1), "elb", "bel")), "the SHA-256 of events/0000"},
		"a file is not listed": {rewrite(t, good, replace(manifestFile, "up.log", "down.log")), "not in its manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "bad.zip")
			if err := os.WriteFile(bad, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := Open(bad)
			if err == nil {
				err = errors.Join(b.Verify(), b.Close())
			}
			if !errors.Is(err, ErrNotBundle) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func without(file string) func(name, text string) (string, bool) {
	return func(name, text string) (string, bool) { return text, name != file }
}

func replace(file, old, next string) func(name, text string) (string, bool) {
	return func(name, text string) (string, bool) {
		if name == file {
			text = strings.Replace(text, old, next, 1)
		}
		return text, true
	}
}

// rewrite copies an archive with files altered or left out; an altered text that is empty means the old one.
func rewrite(t *testing.T, archive []byte, alter func(name, text string) (string, bool)) []byte {
	t.Helper()
	from, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	to := zip.NewWriter(&out)
	for _, f := range from.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		altered, kept := alter(f.Name, string(text))
		if !kept {
			continue
		}
		if altered == "" {
			altered = string(text)
		}
		w, err := to.Create(f.Name)
		if err == nil {
			_, err = io.WriteString(w, altered)
		}
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
