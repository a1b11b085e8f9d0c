package guest

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoader(t *testing.T) {
	fault := errors.New("no such device")
	tests := []struct {
		name   string
		list   string
		fails  string
		order  []string // "network" stands where the network may start
		failed []string
	}{
		{
			name:  "network starts before the rest is loaded",
			list:  "/modules/virtio_pci.ko\n/modules/virtio_net.ko\n/modules/floppy.ko\n",
			order: []string{"virtio_pci", "virtio_net", "network", "floppy"},
		},
		{
			name:  "network driver built in",
			list:  "/modules/floppy.ko\n",
			order: []string{"floppy", "network"},
		},
		{
			name:   "a failure does not stop the others",
			list:   "/modules/virtio_net.ko\n/modules/floppy.ko\n/modules/vfat.ko\n",
			fails:  "floppy",
			order:  []string{"virtio_net", "network", "floppy", "vfat"},
			failed: []string{"floppy"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := filepath.Join(t.TempDir(), "modules")
			if err := os.WriteFile(list, []byte(tt.list), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := newLoader(list)
			if err != nil {
				t.Fatal(err)
			}
			var order []string
			networkSeen := false
			see := func() {
				select {
				case <-l.network:
					if !networkSeen {
						order, networkSeen = append(order, "network"), true
					}
				default:
				}
			}
			l.load = func(path string) error {
				see()
				name := strings.TrimSuffix(filepath.Base(path), ".ko")
				order = append(order, name)
				if name == tt.fails {
					return fault
				}
				return nil
			}
			l.run()
			failed := l.wait()
			see()
			if !slices.Equal(order, tt.order) {
				t.Errorf("order %v, want %v", order, tt.order)
			}
			if len(failed) != len(tt.failed) || len(tt.failed) > 0 && !errors.Is(failed[tt.failed[0]], fault) {
				t.Errorf("failed %v, want %v", failed, tt.failed)
			}
		})
	}
}

func TestLoaderWithoutList(t *testing.T) {
	if _, err := newLoader(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestEnding(t *testing.T) {
	tests := []struct {
		name   string
		status unix.WaitStatus // as the kernel encodes it
		want   string
	}{
		{"orderly", 0, ""},
		{"Go panic", 2 << 8, "agent crashed"},
		{"other status", 7 << 8, "agent ended with status 7"},
		{"out of memory", unix.WaitStatus(unix.SIGKILL), "agent was killed by SIGKILL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ending(tt.status); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// acpiEvent is a netlink message as the kernel's acpi_event family sends it.
func acpiEvent(class string) []byte {
	event := make([]byte, 44) // device class 20, bus id 15, padding, type, data
	copy(event, class)
	msg := make([]byte, 16+4+4, 16+4+4+len(event))
	binary.NativeEndian.PutUint16(msg[4:], 30)
	binary.NativeEndian.PutUint16(msg[20:], uint16(4+len(event)))
	binary.NativeEndian.PutUint16(msg[22:], acpiAttrEvent)
	msg = append(msg, event...)
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	return msg
}

func TestIsPowerButton(t *testing.T) {
	wrongKind := acpiEvent(powerButton)
	binary.NativeEndian.PutUint16(wrongKind[22:], 9)
	tests := []struct {
		name string
		data []byte
		want bool
	}{
		{"power button", acpiEvent(powerButton), true},
		{"another device first", append(acpiEvent("ac_adapter"), acpiEvent(powerButton)...), true},
		{"lid", acpiEvent("button/lid"), false},
		{"other attribute", wrongKind, false},
		{"cut off", acpiEvent(powerButton)[:40], false},
		{"empty", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := isPowerButton(tt.data); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzIsPowerButton looks for messages that break the parser.
func FuzzIsPowerButton(f *testing.F) {
	f.Add(acpiEvent(powerButton))
	f.Add(acpiEvent("ac_adapter")[:30])
	f.Fuzz(func(t *testing.T, data []byte) {
		if isPowerButton(data) && !strings.Contains(string(data), powerButton) {
			t.Error("saw a power button that is not there")
		}
	})
}

func TestAddEntropyRefusesSeeds(t *testing.T) {
	for _, size := range []int{0, maxSeed + 1} {
		if err := addEntropy(make([]byte, size)); err == nil {
			t.Errorf("took a seed of %d bytes", size)
		}
	}
}

func TestMainByHand(t *testing.T) {
	stderr := os.Stderr
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stderr = null
	defer func() { os.Stderr = stderr }()
	if got := Main(nil); got != 2 {
		t.Errorf("status %d, want 2", got)
	}
}
