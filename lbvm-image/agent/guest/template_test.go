package guest

import (
	"bytes"
	"context"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

func TestCopyRehearsesAndThenTakesItsMedium(t *testing.T) {
	drive := &fakeDrive{}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		var seeds []string
		r := &rehearsingMedium{medium: newTestMedium(drive), rehearse: func(_ context.Context, seed []byte) {
			seeds = append(seeds, string(seed))
		}}
		drive.insert(map[string]string{keydelivery.RehearsalFile: "seed"})
		got := make(chan fs.FS, 1)
		go func() {
			files, err := r.Open(ctx)
			if err != nil {
				t.Errorf("open: %v", err)
			}
			got <- files
		}()
		time.Sleep(time.Minute) // of the test's clock
		select {
		case <-got:
			t.Fatal("a rehearsal's medium was taken for an identity")
		default:
		}
		drive.eject()
		time.Sleep(time.Minute)
		drive.insert(map[string]string{keydelivery.BootFile: "{}"})
		if data, err := fs.ReadFile(<-got, keydelivery.BootFile); err != nil || string(data) != "{}" {
			t.Errorf("got %q, %v", data, err)
		}
		if len(seeds) != 1 || seeds[0] != "seed" {
			t.Errorf("rehearsed with %q, want once with its own seed", seeds)
		}
	})
}

func TestSetMACRefusesABadAddress(t *testing.T) {
	boot := keydelivery.Boot{MAC: "ff:ff:ff:ff:ff:ff", Entropy: bytes.Repeat([]byte{1}, keydelivery.EntropySize)}
	if err := setMAC("eth0", boot); err == nil {
		t.Error("took a group address")
	}
}

func TestMakeThreadsReturns(t *testing.T) {
	makeThreads(spareThreads)
	makeThreads(0)
}
