package leakscan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// guestName finds the instance in the command line of its QEMU process.
var guestName = regexp.MustCompile(`\bi-[0-9a-f]{17}\b`)

// GuestsOf is what is to be looked at of QEMU processes: a guest may hold its own LBPK and the USERPKs that were
// delivered to it, as the cloud's journal at path tells, and nothing else. Without a journal nothing was delivered.
func GuestsOf(path string, pids ...int) (guests []Process) {
	for _, pid := range pids {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err != nil {
			continue // it ended
		}
		id := guestName.FindString(string(line))
		guests = append(guests, Process{Role: Guest, Name: "guest " + id, PID: pid, MayEnd: true,
			May: []string{"LBPK of " + id}, Given: func() ([]string, error) { return deliveredTo(id, path) }})
	}
	return guests
}

// deliveredTo names the USERPKs that an instance was given. A delivery is in the journal before the guest has the key.
func deliveredTo(instance, path string) (names []string, err error) {
	err = journal.Read(path, func(ev journal.Event) {
		if ev.Kind == iam.EventDelivered && ev.Subject == instance {
			names = append(names, "USERPK of "+ev.Attributes["arn"])
		}
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look which keys guests may have: %w", err)
	}
	return names, nil
}
