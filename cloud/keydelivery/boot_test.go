package keydelivery_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func newBoot() keydelivery.Boot {
	return keydelivery.Boot{
		FormatVersion: keydelivery.BootFormat, InstanceID: instance, MAC: "52:54:00:12:34:56",
		Time:        time.Date(2026, 11, 22, 10, 0, 0, 123e6, time.UTC),
		Entropy:     bytes.Repeat([]byte{7}, keydelivery.EntropySize),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

func bootFS(t testing.TB, b keydelivery.Boot) fstest.MapFS {
	t.Helper()
	files, err := b.Files()
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func TestBootRoundTrip(t *testing.T) {
	want := newBoot()
	fsys := bootFS(t, want)
	if len(fsys) != 1 {
		t.Errorf("a medium without a credential has %d files", len(fsys))
	}
	got, err := keydelivery.ReadBoot(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if mac, err := got.HardwareAddr(); err != nil || mac.String() != want.MAC {
		t.Errorf("address of the card: %v, %v", mac, err)
	}
	// The boot file of a medium with a credential is read in the same way.
	if _, err := keydelivery.ReadBoot(mediumFS(t, newMedium(t))); err != nil {
		t.Error(err)
	}
}

func TestBootWithoutMACOrTime(t *testing.T) {
	b := newBoot()
	b.MAC, b.Time = "", time.Time{}
	fsys := bootFS(t, b)
	for _, name := range []string{"mac", "time", "endpoints"} {
		if bytes.Contains(fsys[keydelivery.BootFile].Data, []byte(name)) {
			t.Errorf("%s is written though it is not set", name)
		}
	}
	got, err := keydelivery.ReadBoot(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if mac, err := got.HardwareAddr(); mac != nil || err != nil {
		t.Errorf("address of the card: %v, %v", mac, err)
	}
}

func TestBootRefuses(t *testing.T) {
	tests := []struct {
		name   string
		alter  func(*keydelivery.Boot)
		naming string
	}{
		{name: "another version", alter: func(b *keydelivery.Boot) { b.FormatVersion = 9 }, naming: "formatVersion"},
		{name: "no instance", alter: func(b *keydelivery.Boot) { b.InstanceID = "" }, naming: "instanceId"},
		{name: "short entropy", alter: func(b *keydelivery.Boot) { b.Entropy = b.Entropy[1:] }, naming: "entropy"},
		{name: "no address", alter: func(b *keydelivery.Boot) { b.MAC = "eth0" }, naming: "mac"},
		{name: "long address", alter: func(b *keydelivery.Boot) { b.MAC = "02:00:5e:10:00:00:00:01" }, naming: "mac"},
		{name: "trace with a line break", alter: func(b *keydelivery.Boot) { b.Traceparent += "\r\nx: y" },
			naming: "traceparent"},
		{name: "trace of a later version", alter: func(b *keydelivery.Boot) { b.Traceparent = "01" + b.Traceparent[2:] },
			naming: "traceparent"},
		{name: "trace cut short", alter: func(b *keydelivery.Boot) { b.Traceparent = b.Traceparent[:54] },
			naming: "traceparent"},
		{name: "group address", alter: func(b *keydelivery.Boot) { b.MAC = "01:00:5e:00:00:01" }, naming: "mac"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoot()
			tt.alter(&b)
			_, err := b.Files()
			if !errors.Is(err, keydelivery.ErrMedium) || !strings.Contains(err.Error(), tt.naming) {
				t.Errorf("got %v, want ErrMedium naming %q", err, tt.naming)
			}
		})
	}
}

func FuzzReadBoot(f *testing.F) {
	f.Add(bootFS(f, newBoot())[keydelivery.BootFile].Data)
	f.Fuzz(func(t *testing.T, text []byte) {
		bounded.Memory(t, len(text), func() {
			b, err := keydelivery.ReadBoot(fstest.MapFS{keydelivery.BootFile: &fstest.MapFile{Data: text}})
			if err != nil {
				return
			}
			if _, err := b.Files(); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
		})
	})
}
