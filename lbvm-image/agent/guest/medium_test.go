package guest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// fakeDrive is a drive whose media are folders' contents.
type fakeDrive struct {
	mu           sync.Mutex
	number       int
	medium       map[string]string // nil: empty
	openError    error
	lookError    error
	prepareError error
	prepared     int
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

func (d *fakeDrive) setOpenError(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.openError = err
}

func (d *fakeDrive) prepare() error {
	d.prepared++
	return d.prepareError
}

func (d *fakeDrive) look() (int, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.number, d.medium != nil, d.lookError
}

func (d *fakeDrive) open() (fs.FS, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.openError != nil {
		return nil, d.openError
	}
	files := fstest.MapFS{}
	for name, text := range d.medium {
		if folder, ok := strings.CutSuffix(name, "/"); ok {
			files[folder] = &fstest.MapFile{Mode: fs.ModeDir | 0o700}
			continue
		}
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
	}
	return files, nil
}

func newTestMedium(d *fakeDrive) *medium {
	f := newMedium(slog.New(slog.DiscardHandler))
	f.drive = d
	return f
}

func TestOpenWaitsForAMedium(t *testing.T) {
	drive := &fakeDrive{}
	synctest.Test(t, func(t *testing.T) {
		f := newTestMedium(drive)
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
		f := newTestMedium(drive)
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
		f := newTestMedium(drive)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		broken := errors.New("sector 7")
		drive.setOpenError(broken)
		drive.insert(map[string]string{"a": "1"})
		files, err := f.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fs.ReadFile(files, "a"); !errors.Is(err, broken) {
			t.Errorf("read: %v", err)
		}
		drive.setOpenError(nil)
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
		name    string
		drive   *fakeDrive
		openErr bool
		readErr string
	}{
		{name: "no controller", drive: &fakeDrive{prepareError: fault}, openErr: true},
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
			f := newTestMedium(tt.drive)
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
