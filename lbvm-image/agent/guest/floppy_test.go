package guest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// fakeDrive is a drive whose media are folders' contents.
type fakeDrive struct {
	mu         sync.Mutex
	number     int
	medium     map[string]string // nil: empty
	mountError error
	lookError  error
	mounted    bool
	prepared   int
}

func (d *fakeDrive) insert(files map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.medium = files
	d.number++
}

func (d *fakeDrive) eject() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.medium = nil
}

func (d *fakeDrive) setMountError(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mountError = err
}

func (d *fakeDrive) prepare() error {
	d.prepared++
	return nil
}

func (d *fakeDrive) look() (int, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.number, d.medium != nil, d.lookError
}

func (d *fakeDrive) mount(dir string) (func() error, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mountError != nil {
		return nil, d.mountError
	}
	for name, text := range d.medium {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.Mkdir(path, 0o700); err != nil {
				return nil, err
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	d.mounted = true
	return func() error {
		d.mounted = false
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
		return err
	}, nil
}

func newTestFloppy(t *testing.T, d *fakeDrive) *floppy {
	t.Helper()
	f := newFloppy(nil, slog.New(slog.DiscardHandler))
	f.drive, f.dir = d, t.TempDir()
	return f
}

func TestOpenWaitsForAMedium(t *testing.T) {
	drive := &fakeDrive{}
	synctest.Test(t, func(t *testing.T) {
		f := newTestFloppy(t, drive)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan fs.FS, 1)
		go func() {
			files, err := f.Open(ctx)
			if err != nil {
				t.Errorf("open: %v", err)
			}
			got <- files
		}()
		time.Sleep(time.Hour) // of the test's clock
		select {
		case <-got:
			t.Error("opened an empty drive")
		default:
		}
		drive.insert(map[string]string{"credential": "c", "cloudtwin.json": "{}", "folder/": ""})
		files := <-got
		if err := fstest.TestFS(files, "credential", "cloudtwin.json"); err != nil {
			t.Error(err)
		}
		if drive.mounted {
			t.Error("medium is still mounted")
		}
		if entries, _ := fs.ReadDir(files, "."); len(entries) != 2 {
			t.Errorf("got %d entries, want the 2 files", len(entries))
		}
		cancel()
		synctest.Wait()
	})
	if drive.prepared != 1 {
		t.Errorf("drive was prepared %d times", drive.prepared)
	}
}

func TestOpenGivesEachMediumOnce(t *testing.T) {
	drive := &fakeDrive{}
	synctest.Test(t, func(t *testing.T) {
		f := newTestFloppy(t, drive)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		drive.insert(map[string]string{"a": "1"})
		if _, err := f.Open(ctx); err != nil {
			t.Fatal(err)
		}
		short, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		if _, err := f.Open(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second open of the same medium: %v", err)
		}
		select {
		case <-f.Changed():
			t.Error("told of a change that was none")
		default:
		}
		drive.eject()
		time.Sleep(time.Minute)
		drive.insert(map[string]string{"a": "2"})
		<-f.Changed()
		time.Sleep(time.Minute)
		select {
		case <-f.Changed():
			t.Error("told of the same medium twice")
		default:
		}
		files, err := f.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := fs.ReadFile(files, "a"); err != nil || string(data) != "2" {
			t.Errorf("got %q, %v", data, err)
		}
	})
}

func TestOpenReturnsAnUnreadableMediumAgain(t *testing.T) {
	drive := &fakeDrive{}
	synctest.Test(t, func(t *testing.T) {
		f := newTestFloppy(t, drive)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		broken := errors.New("sector 7")
		drive.setMountError(broken)
		drive.insert(map[string]string{"a": "1"})
		files, err := f.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fs.ReadFile(files, "a"); !errors.Is(err, broken) {
			t.Errorf("read: %v", err)
		}
		drive.setMountError(nil)
		files, err = f.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fs.ReadFile(files, "a"); err != nil {
			t.Errorf("read again: %v", err)
		}
	})
}

func TestOpenRefusals(t *testing.T) {
	fault := errors.New("no controller")
	many := map[string]string{}
	for i := range maxFiles + 1 {
		many[strings.Repeat("x", i+1)] = ""
	}
	tests := []struct {
		name     string
		drive    *fakeDrive
		unusable error
		openErr  bool
		readErr  string
	}{
		{name: "driver not loaded", drive: &fakeDrive{}, unusable: fault, openErr: true},
		{name: "device gone", drive: &fakeDrive{lookError: fault}, openErr: true},
		{name: "too many files", drive: &fakeDrive{medium: many, number: 1}, readErr: "more than 64 files"},
		{
			name:    "too much",
			drive:   &fakeDrive{medium: map[string]string{"a": strings.Repeat("x", maxMedium+1)}, number: 1},
			readErr: "too large",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newTestFloppy(t, tt.drive)
			f.unusable = tt.unusable
			files, err := f.Open(t.Context())
			if tt.openErr {
				if !errors.Is(err, fault) {
					t.Errorf("open: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := files.Open("a"); err == nil || !strings.Contains(err.Error(), tt.readErr) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func TestMemoryFSCloseWipes(t *testing.T) {
	secret := []byte("secret")
	m := &memoryFS{files: map[string][]byte{"key": secret}}
	file, err := m.Open("key")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(file)
	if err != nil || string(data) != "secret" {
		t.Fatalf("got %q, %v", data, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if string(secret) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("left %q behind", secret)
	}
	if _, err := m.Open("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open after close: %v", err)
	}
	own := file.(*memoryFile).data
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Trim(string(own), "\x00") != "" {
		t.Errorf("the open file left %q behind", own)
	}
}
