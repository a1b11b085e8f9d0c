package guest

import (
	"fmt"
	"io/fs"

	"github.com/cloudtwin/cloudtwin/node/floppy"
)

// floppyDrive is the machine's first floppy drive.
type floppyDrive struct {
	access     func() error // opens the ports
	controller controller
	number     int  // media seen so far
	there      bool // a medium was there last time
}

func newFloppyDrive() *floppyDrive {
	return &floppyDrive{access: openPorts, controller: controller{ports: machinePorts{}}}
}

// prepare resets the controller.
func (d *floppyDrive) prepare() error {
	// Process 1 opened the ports for all of the agent's threads; this finds out whether it could.
	if err := d.access(); err != nil {
		return err
	}
	return d.controller.reset()
}

// look tells whether there is a medium, and its number: another medium has another one. It costs one read of a port as
// long as a medium stays where it is, and some twenty otherwise.
func (d *floppyDrive) look() (number int, there bool, err error) {
	if d.there && !d.controller.changed() {
		return d.number, true, nil
	}
	d.there = false
	if err := d.controller.nudge(); err != nil {
		return 0, false, fmt.Errorf("look for a medium: %w", err)
	}
	if d.controller.changed() {
		return 0, false, nil
	}
	d.number++
	d.there = true
	return d.number, true, nil
}

// open returns the medium's files, which are read from the drive as they are asked for.
func (d *floppyDrive) open() (fs.FS, error) { return floppy.Read(&d.controller) }
