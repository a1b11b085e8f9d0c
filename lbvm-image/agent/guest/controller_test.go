package guest

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/node/floppy"
)

// fakeController is a floppy controller as its data sheet has it, as far as a guest uses it.
type fakeController struct {
	absent  bool
	mute    bool // it takes nothing any more
	image   []byte
	fault   int // sector, counted from the medium's first, that cannot be read; 0: none
	changed bool
	track   byte

	command []byte
	out     []byte // bytes for the guest
	sectors int    // how many of out's bytes are sectors'
	resets  int
	seeks   int
}

func (c *fakeController) insert(t *testing.T, files map[string][]byte) {
	t.Helper()
	var image bytes.Buffer
	if err := floppy.Write(&image, files); err != nil {
		t.Fatal(err)
	}
	c.image, c.changed = image.Bytes(), true
}

func (c *fakeController) eject() { c.image, c.changed = nil, true }

func (c *fakeController) in(port uint16) byte {
	switch {
	case c.absent:
		return 0xff
	case port == digitalInput && c.changed:
		return mediumChanged
	case port == mainStatus && c.mute:
		return 0
	case port == mainStatus && len(c.out) > 0:
		status := byte(statusReady | statusToHost)
		if c.sectors > 0 {
			status |= statusNoDMA
		}
		return status
	case port == mainStatus:
		return statusReady
	case port == dataFIFO && len(c.out) > 0:
		b := c.out[0]
		c.out = c.out[1:]
		c.sectors = max(c.sectors-1, 0)
		return b
	default:
		return 0
	}
}

func (c *fakeController) fill(port uint16, b []byte) {
	for i := range b {
		b[i] = c.in(port)
	}
}

func (c *fakeController) out8(value byte) {
	c.command = append(c.command, value)
	want := map[byte]int{
		commandSpecify: 3, commandRecalibrate: 2, commandSenseInt: 1, commandSeek: 3, commandRead: 9,
	}[c.command[0]]
	if len(c.command) < want {
		return
	}
	command := c.command
	c.command = nil
	switch command[0] {
	case commandRecalibrate:
		c.move(0)
	case commandSenseInt:
		c.out = []byte{0x20, c.track}
	case commandSeek:
		c.seeks++
		c.move(command[2])
	case commandRead:
		c.read(int(command[2]), int(command[3]), int(command[4]), int(command[6]))
	}
}

func (c *fakeController) move(track byte) {
	if c.image != nil && c.track != track {
		c.changed = false
		c.track = track
	}
}

func (c *fakeController) read(track, head, first, last int) {
	for sector := first; sector <= last; sector++ {
		at := (track*heads+head)*sectorsPerTrack + sector - 1
		if c.image == nil || at == c.fault && c.fault != 0 || sector > sectorsPerTrack {
			c.out = append(c.out, 0x40, 0x20, 0, byte(track), byte(head), byte(sector), 2)
			return
		}
		c.out = append(c.out, c.image[at*sectorSize:(at+1)*sectorSize]...)
		c.sectors += sectorSize
	}
	c.out = append(c.out, 0, 0, 0, byte(track), byte(head), byte(last), 2)
}

// ports is the controller as the guest sees it.
func (c *fakeController) Ports() ports { return fakePorts{c} }

type fakePorts struct{ *fakeController }

func (p fakePorts) out(port uint16, value byte) {
	switch {
	case port == digitalOutput && value == 0:
		p.resets++
	case port == dataFIFO:
		p.out8(value)
	}
}

func newTestDrive(c *fakeController) *floppyDrive {
	return &floppyDrive{access: func() error { return nil }, controller: controller{ports: c.Ports()}}
}

func TestDriveTellsMediaApart(t *testing.T) {
	c := &fakeController{changed: true}
	d := newTestDrive(c)
	if err := d.prepare(); err != nil || c.resets != 1 {
		t.Fatalf("prepare: %v, %d resets", err, c.resets)
	}
	look := func(wantNumber int, wantThere bool) {
		t.Helper()
		number, there, err := d.look()
		if err != nil || there != wantThere || there && number != wantNumber {
			t.Errorf("got medium %d, there %t, %v; want %d, %t", number, there, err, wantNumber, wantThere)
		}
	}
	look(0, false)
	look(0, false)
	c.insert(t, nil)
	look(1, true)
	moved := c.seeks
	look(1, true)
	look(1, true)
	if c.seeks != moved {
		t.Error("the head moves though the medium stays")
	}
	c.eject()
	look(0, false)
	look(0, false)
	c.insert(t, nil)
	look(2, true)
	// Put in another one while nobody looks.
	c.insert(t, nil)
	look(3, true)
}

func TestDriveReadsFiles(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 2000) // over several tracks
	want := map[string][]byte{"credential": []byte("text"), "cloudtwin.json": []byte("{}"), "long": long}
	c := &fakeController{}
	c.insert(t, want)
	d := newTestDrive(c)
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	if _, there, err := d.look(); !there || err != nil {
		t.Fatalf("there %t, %v", there, err)
	}
	files, err := d.open()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		if got, err := fs.ReadFile(files, name); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(text))
		}
	}
}

func TestControllerFaults(t *testing.T) {
	c := &fakeController{absent: true}
	if err := newTestDrive(c).prepare(); !errors.Is(err, errNoController) {
		t.Errorf("absent: %v", err)
	}
	c = &fakeController{}
	c.insert(t, map[string][]byte{"a": []byte("text")})
	d := newTestDrive(c)
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	c.fault = 5
	if _, err := d.open(); err == nil || !strings.Contains(err.Error(), "status 40 20") {
		t.Errorf("bad sector: %v", err)
	}
	c.fault = 0
	if _, err := d.open(); err != nil {
		t.Errorf("the same without the fault: %v", err)
	}
	c.eject()
	if _, err := d.open(); err == nil {
		t.Error("read an empty drive")
	}
	denied := errors.New("denied")
	d.access = func() error { return denied }
	if err := d.prepare(); !errors.Is(err, denied) {
		t.Errorf("without access to the ports: %v", err)
	}
}
