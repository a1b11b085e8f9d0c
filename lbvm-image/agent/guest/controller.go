package guest

import (
	"errors"
	"fmt"
	"time"
)

// Registers of the floppy controller (Intel 82077AA data sheet, section 2.1).
const (
	digitalOutput = 0x3f2
	mainStatus    = 0x3f4
	dataFIFO      = 0x3f5
	digitalInput  = 0x3f7

	// motorOn selects the first drive, its motor on, without DMA.
	motorOn = 0x14
	// In the main status register: the FIFO is ready, to be read, for a sector's bytes.
	statusReady   = 0x80
	statusToHost  = 0x40
	statusNoDMA   = 0x20
	noController  = 0xff
	mediumChanged = 0x80 // in the digital input register
)

// Commands (data sheet, section 5) and bits of their results.
const (
	commandSpecify      = 0x03
	commandRecalibrate  = 0x07
	commandSenseInt     = 0x08
	commandSeek         = 0x0f
	commandRead         = 0x46 // double density, one side
	specifyStep         = 0xdf
	specifyNoDMA        = 0x03
	sectorSizeCode      = 2 // 512 bytes
	gapLength           = 0x1b
	unusedLength        = 0xff
	resultBytes         = 7
	resultAbnormal      = 0xc0 // in status register 0
	interruptsAfterBoot = 4
)

// The medium's geometry: 1.44 MB.
const (
	sectorSize      = 512
	sectorsPerTrack = 18
	heads           = 2
)

// controllerPatience bounds the wait for one byte. An emulated controller is always ready; the time is for a host that
// lets its guest wait.
const controllerPatience = 2 * time.Second

var (
	errNoController = errors.New("no floppy controller")
	errController   = errors.New("floppy controller does not answer")
)

// ports is how the controller is reached.
type ports interface {
	in(port uint16) byte
	out(port uint16, value byte)
	// fill reads the port once for each byte of b.
	fill(port uint16, b []byte)
}

// controller drives a floppy controller with one drive by programmed I/O. The kernel's driver is left out of the image:
// it takes the way through the block layer, which costs an emulated guest ten times the work, waits for motors that an
// emulated drive does not have, and cannot tell an empty drive from a full one.
type controller struct {
	ports ports
	track int // where the head is
}

// reset makes the controller usable. errNoController when there is none.
func (c *controller) reset() error {
	c.ports.out(digitalOutput, 0)
	c.ports.out(digitalOutput, motorOn)
	if c.ports.in(mainStatus) == noController {
		return errNoController
	}
	for range interruptsAfterBoot {
		if _, err := c.senseInterrupt(); err != nil {
			return err
		}
	}
	if err := c.command(commandSpecify, specifyStep, specifyNoDMA); err != nil {
		return err
	}
	if err := c.command(commandRecalibrate, 0); err != nil {
		return err
	}
	_, err := c.senseInterrupt()
	return err
}

// changed tells whether the medium was changed since the head last moved over one; in an empty drive it stays so.
func (c *controller) changed() bool { return c.ports.in(digitalInput)&mediumChanged != 0 }

// nudge moves the head to another track, which clears changed when there is a medium.
func (c *controller) nudge() error {
	target := 0
	if c.track == 0 {
		target = 1
	}
	return c.seek(0, target)
}

func (c *controller) seek(head, track int) error {
	if err := c.command(commandSeek, byte(head<<2), byte(track)); err != nil {
		return err
	}
	_, err := c.senseInterrupt()
	return err
}

// senseInterrupt ends a command that has no result of its own and learns where the head is.
func (c *controller) senseInterrupt() (status byte, err error) {
	if err := c.command(commandSenseInt); err != nil {
		return 0, err
	}
	if status, err = c.result(); err != nil {
		return 0, err
	}
	track, err := c.result()
	c.track = int(track)
	return status, err
}

// ReadAt implements io.ReaderAt for whatever part of the medium, by whole sectors.
func (c *controller) ReadAt(b []byte, offset int64) (int, error) {
	done := 0
	for done < len(b) {
		at := offset + int64(done)
		sector, skip := int(at/sectorSize), int(at%sectorSize)
		first := sector % sectorsPerTrack
		count := min((skip+len(b)-done+sectorSize-1)/sectorSize, sectorsPerTrack-first)
		track, head := sector/(heads*sectorsPerTrack), sector/sectorsPerTrack%heads
		buffer := make([]byte, count*sectorSize)
		err := c.readSectors(track, head, first+1, buffer)
		done += copy(b[done:], buffer[skip:])
		clear(buffer)
		if err != nil {
			return 0, fmt.Errorf("read track %d, head %d: %w", track, head, err)
		}
	}
	return done, nil
}

// readSectors fills b from sectors of one track; the first sector of a track is 1.
func (c *controller) readSectors(track, head, first int, b []byte) error {
	if track != c.track {
		if err := c.seek(head, track); err != nil {
			return err
		}
	}
	last := first + len(b)/sectorSize - 1
	err := c.command(commandRead, byte(head<<2), byte(track), byte(head), byte(first), sectorSizeCode, byte(last),
		gapLength, unusedLength)
	if err != nil {
		return err
	}
	for ; len(b) > 0; b = b[sectorSize:] {
		status, err := c.ready(true)
		if err != nil {
			return err
		}
		if status&statusNoDMA == 0 {
			break // it went over to the result: an error
		}
		c.ports.fill(dataFIFO, b[:sectorSize])
	}
	var result [resultBytes]byte
	for i := range result {
		if result[i], err = c.result(); err != nil {
			return err
		}
	}
	if result[0]&resultAbnormal != 0 || len(b) > 0 {
		return fmt.Errorf("floppy controller reports status %02x %02x %02x", result[0], result[1], result[2])
	}
	return nil
}

func (c *controller) command(bytes ...byte) error {
	for _, b := range bytes {
		if _, err := c.ready(false); err != nil {
			return err
		}
		c.ports.out(dataFIFO, b)
	}
	return nil
}

func (c *controller) result() (byte, error) {
	if _, err := c.ready(true); err != nil {
		return 0, err
	}
	return c.ports.in(dataFIFO), nil
}

// ready waits until the controller takes a byte, or has one for us.
func (c *controller) ready(toHost bool) (status byte, err error) {
	var began time.Time
	for {
		status = c.ports.in(mainStatus)
		if status&statusReady != 0 && (status&statusToHost != 0) == toHost {
			return status, nil
		}
		switch {
		case status == noController:
			return status, errNoController
		case began.IsZero():
			began = time.Now()
		case time.Since(began) > controllerPatience:
			return status, errController
		}
	}
}
