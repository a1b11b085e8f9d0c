package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// nodeState is a state folder as a node by itself leaves it: a guest that runs, i-5, one that ended, i-6, and one of
// another cloud, i-7. keyPEM is its NODEPK.
func nodeState(t *testing.T, id string) (l local.Layout, keyPEM []byte) {
	t.Helper()
	l = local.Layout(filepath.Join(t.TempDir(), "state"))
	libvirt := l.LibvirtRoot()
	t.Cleanup(func() { // it may be beside the folder
		if err := os.RemoveAll(libvirt); err != nil {
			t.Error(err)
		}
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: id}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for path, text := range map[string]string{
		l.Mark():                            "",
		filepath.Join(l.Node(), "node.key"): string(keyPEM),
		filepath.Join(l.Node(), "node.crt"): string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
			Bytes: cert})),
		filepath.Join(l.Node(), "machines", "i-5", "console.log"):   "five",
		filepath.Join(l.Node(), "machines", "i-5", "frames.pcap"):   "headers of five",
		filepath.Join(l.Node(), "machines", "i-5", "instance.json"): "a record",
		filepath.Join(l.Node(), "ended", "i-6.console.log"):         "six",
		filepath.Join(l.Node(), "ended", "i-6.domain.xml"):          "<domain>i-6</domain>",
		filepath.Join(l.Node(), "ended", "i-6.qemu.log"):            "qemu of six",
		filepath.Join(l.Node(), "machines", "i-7", "console.log"):   "seven",
		filepath.Join(libvirt, "run", "qemu", "ct-i-5.xml"):         "<domain>i-5</domain>",
		filepath.Join(libvirt, "log", "qemu", "ct-i-5.log"):         "qemu of i-5",
		filepath.Join(libvirt, "run", "qemu", "ct-i-7.xml"):         "<domain>i-7</domain>",
		filepath.Join(libvirt, "log", "libvirt.log"):                "libvirt's words",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return l, keyPEM
}

// statusOf has consoles where a node says that they are.
func statusOf(l local.Layout) *operator.Status {
	return &operator.Status{Instances: []operator.Instance{
		{ID: "i-5", ConsolePath: filepath.Join(l.Node(), "machines", "i-5", "console.log")},
		{ID: "i-6", ConsolePath: filepath.Join(l.Node(), "ended", "i-6.console.log")},
	}}
}

// added are the files that a bundle has of nodes with state folders of their own.
func added(t *testing.T, src Source) []string {
	t.Helper()
	before := names(write(t, Source{State: src.State, Images: src.Images, Status: &operator.Status{}}))
	var out []string
	for _, name := range names(write(t, src)) {
		if !slices.Contains(before, name) {
			out = append(out, name)
		}
	}
	return out
}

func TestWriteOfNodesElsewhere(t *testing.T) {
	guests := []string{"guests/i-5/console.log", "guests/i-5/frames.pcap", "guests/i-6/console.log",
		"guests/i-6/domain.xml", "guests/i-6/qemu.log"}
	for name, c := range map[string]struct {
		change func(*Source, local.Layout)
		want   []string
	}{
		"named": {
			func(src *Source, l local.Layout) { src.Nodes = []local.Layout{l} },
			append(slices.Clone(guests), "guests/i-7/console.log", "logs/node-9/ct-i-5.log", "logs/node-9/ct-i-5.xml",
				"logs/node-9/ct-i-7.xml", "logs/node-9/libvirt.log"),
		},
		"told by consoles": {
			func(src *Source, l local.Layout) { src.Status = statusOf(l) },
			append(slices.Clone(guests), "logs/node-9/ct-i-5.log", "logs/node-9/ct-i-5.xml"),
		},
		"told by consoles, a folder that is no state": {
			func(src *Source, l local.Layout) {
				src.Status = statusOf(l)
				if err := os.Remove(l.Mark()); err != nil {
					t.Fatal(err)
				}
			}, guests,
		},
		"of one guest": {
			func(src *Source, l local.Layout) {
				src.Nodes, src.Selection.VM = []local.Layout{l}, "i-5"
			}, []string{"logs/node-9/libvirt.log"}, // no event names the guest
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := state(t)
			src.Status = &operator.Status{}
			node, _ := nodeState(t, "node-9")
			c.change(&src, node)
			if diff := cmp.Diff(c.want, added(t, src)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWriteOfNodesThatAreNone(t *testing.T) {
	src := state(t)
	src.Nodes = []local.Layout{local.Layout(t.TempDir())}
	if _, err := Write(t.Context(), filepath.Join(t.TempDir(), "b.zip"), src, nil); !errors.Is(err, ErrNoNode) {
		t.Errorf("error %v, want %v", err, ErrNoNode)
	}
}

// TestWriteLooksForTheKeysOfNodesElsewhere has a node's log hold its own NODEPK.
func TestWriteLooksForTheKeysOfNodesElsewhere(t *testing.T) {
	for name, change := range map[string]func(*Source, local.Layout){
		"named": func(src *Source, l local.Layout) { src.Nodes = []local.Layout{l} },
		"told":  func(src *Source, l local.Layout) { src.Status = statusOf(l) },
	} {
		t.Run(name, func(t *testing.T) {
			src := state(t)
			node, key := nodeState(t, "node-9")
			change(&src, node)
			src.Logs = []string{filepath.Join(t.TempDir(), "node.log")}
			if err := os.WriteFile(src.Logs[0], key, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Write(t.Context(), filepath.Join(t.TempDir(), "b.zip"), src, nil)
			if !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "logs/node.log") {
				t.Errorf("error %v, want %v in logs/node.log", err, ErrSecret)
			}
		})
	}
}

func TestLogsOfProcesses(t *testing.T) {
	src := state(t)
	for _, dir := range []string{t.TempDir(), t.TempDir()} {
		path := filepath.Join(dir, "my node.log")
		if err := os.WriteFile(path, []byte("words"), 0o600); err != nil {
			t.Fatal(err)
		}
		src.Logs = append(src.Logs, path)
	}
	if got, want := added(t, src), []string{"logs/my-node-2.log", "logs/my-node.log"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestStateOf(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		want local.Layout // empty: none
	}{
		"runs":                  {"/s/node/machines/i-5/console.log", "/s"},
		"ended":                 {"/s/node/ended/i-5.console.log", "/s"},
		"of another":            {"/s/node/machines/i-6/console.log", ""},
		"in another folder":     {"/s/nodes/machines/i-5/console.log", ""},
		"of a folder by itself": {"/machines/i-5/console.log", ""},
		"not whole":             {"s/node/machines/i-5/console.log", ""},
		"none":                  {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := stateOf("i-5", c.path); got != c.want && ok || ok != (c.want != "") {
				t.Errorf("got %q, %t, want %q", got, ok, c.want)
			}
		})
	}
}
