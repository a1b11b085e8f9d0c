package controller

import (
	"errors"
	"strings"
	"testing"
)

func TestMediaMustBeInMemory(t *testing.T) {
	if err := CheckMemoryBacked("/proc"); !errors.Is(err, ErrNotMemory) {
		t.Errorf("/proc: %v", err)
	}
	if err := CheckMemoryBacked("/dev/shm"); err != nil {
		t.Errorf("/dev/shm: %v", err)
	}
	if _, err := openMedia("/proc/self/fd/nothing"); err == nil {
		t.Error("a folder that cannot be made is taken")
	}
}

func TestConfigValidate(t *testing.T) {
	_, err := New(Config{NodeID: "a b", SocketDir: "/" + strings.Repeat("d", 100), ColdBoots: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"Key", "Driver", "Network", "Cloud", "Images", "Dir", "MediaDir", "node id",
		"SocketDir", "ColdBoots"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}
