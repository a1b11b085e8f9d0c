package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	plan "github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// BootTime is what an instance's medium is to say that the time is.
func (n *Node) BootTime(id string) time.Time {
	now := n.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.guests[id]
	if g == nil {
		return now
	}
	for _, f := range n.ofLocked(plan.GuestClockJump) {
		if f.Covers(g.Guest) {
			now = now.Add(f.Time("offset"))
			n.appliedLocked(f, id)
		}
	}
	return now
}

// WithoutEntropy says that an instance's medium is to have none.
func (n *Node) WithoutEntropy(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.guests[id]
	if g == nil {
		return false
	}
	f := n.coveringLocked(plan.GuestNoEntropy, g)
	if f != nil {
		n.appliedLocked(f, id)
	}
	return f != nil
}

// MediumWritten is told of an instance's new medium before any guest reads it, and may change what is in the file. It
// may wait for another guest's medium, until ctx ends or a second has passed.
func (n *Node) MediumWritten(ctx context.Context, id, path string) {
	n.mu.Lock()
	g := n.guests[id]
	if g != nil {
		g.medium = path
	}
	if g == nil || len(n.active) == 0 {
		n.mu.Unlock()
		return
	}
	corrupt, swap := n.coveringLocked(plan.MediumCorrupt, g), n.swapLocked(g)
	n.mu.Unlock()
	if corrupt != nil {
		n.told(corrupt, id, n.corrupt(corrupt, id, path))
	}
	if swap != nil {
		n.swap(ctx, swap, id, path)
	}
}

// corrupt flips bits of what the medium holds.
func (n *Node) corrupt(f *active, id, path string) error {
	image, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("corrupt medium: %w", err)
	}
	defer clear(image)
	used := len(image)
	for used > 0 && image[used-1] == 0 {
		used--
	}
	if used == 0 {
		return errors.New("corrupt medium: it is empty")
	}
	n.mu.Lock()
	chance := f.chanceOf(id)
	for range f.Number("bits") {
		image[chance.IntN(used)] ^= 1 << chance.IntN(8)
	}
	n.mu.Unlock()
	return overwrite(path, image[:used])
}

// overwrite changes the beginning of a file.
func overwrite(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("change medium: %w", err)
	}
	_, err = file.WriteAt(data, 0)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("change medium: %w", err)
	}
	return nil
}

// swapLocked returns the fault by which a guest's medium is to be exchanged, whichever of the two it is.
func (n *Node) swapLocked(g *guest) *active {
	for _, f := range n.ofLocked(plan.MediumSwap) {
		other, err := plan.ParseSelector(f.Param("with"))
		if f.Covers(g.Guest) || err == nil && other.Covers(g.Guest) {
			return f
		}
	}
	return nil
}

// partner says whether two guests are the two of a swap.
func (f *active) partner(a, b *guest) bool {
	other, err := plan.ParseSelector(f.Param("with"))
	return err == nil && a.ID != b.ID &&
		(f.Covers(a.Guest) && other.Covers(b.Guest) || f.Covers(b.Guest) && other.Covers(a.Guest))
}

// swapPatience is how long a medium waits for the other one.
const swapPatience = time.Second

// swap exchanges a medium with another's that waits for it, or waits for one.
func (n *Node) swap(ctx context.Context, f *active, id, path string) {
	n.mu.Lock()
	for other, waiting := range n.swapped {
		if n.guests[other] == nil || n.guests[id] == nil || !f.partner(n.guests[id], n.guests[other]) {
			continue
		}
		delete(n.swapped, other)
		theirs := n.media[other]
		n.mu.Unlock()
		err := exchange(path, theirs)
		n.told(f, id, err)
		n.told(f, other, err)
		close(waiting)
		return
	}
	waiting := make(chan struct{})
	n.swapped[id], n.media[id] = waiting, path
	n.mu.Unlock()
	timer := time.NewTimer(swapPatience)
	defer timer.Stop()
	select {
	case <-waiting:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	n.mu.Lock()
	waits := n.swapped[id] == waiting
	if waits {
		delete(n.swapped, id)
	}
	n.mu.Unlock()
	if !waits {
		<-waiting // somebody has begun to exchange it
		return
	}
	n.told(f, id, fmt.Errorf("swap medium: no other guest's medium came within %s", swapPatience))
}

// exchange exchanges the contents of two files, which stay where they are: their owners wipe them.
func exchange(a, b string) error {
	first, err := os.ReadFile(a)
	if err != nil {
		return fmt.Errorf("swap medium: %w", err)
	}
	defer clear(first)
	second, err := os.ReadFile(b)
	if err != nil {
		return fmt.Errorf("swap medium: %w", err)
	}
	defer clear(second)
	return errors.Join(overwrite(a, second), overwrite(b, first))
}

// MediumInserted is told that an instance's medium is in its drive, from which it may fall out again.
func (n *Node) MediumInserted(ctx context.Context, id string) {
	n.mu.Lock()
	var f *active
	if g := n.guests[id]; g != nil {
		f, g.falling = g.falling, nil
	}
	n.mu.Unlock()
	if f == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verbTimeout)
	defer cancel()
	machine, err := n.cfg.Driver.Find(ctx, id)
	if err == nil {
		err = machine.EjectMedium(ctx)
	}
	if errors.Is(err, hypervisor.ErrNoMedium) { // DriveEmpty was asked
		err = nil
	}
	if err == nil {
		n.mu.Lock()
		if g := n.guests[id]; g != nil {
			g.fallen = g.medium
		}
		n.mu.Unlock()
	}
	n.told(f, id, err)
}

// DriveEmpty says that an instance's medium falls out before its guest can read it.
func (n *Node) DriveEmpty(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.guests[id]
	if g == nil {
		return false
	}
	g.falling = n.coveringLocked(plan.MediumEject, g)
	return g.falling != nil
}

// putBack puts a medium that fell out back into its guest's drive, unless it was taken away for good meanwhile.
func (n *Node) putBack(ctx context.Context, id, path string) {
	if _, err := os.Stat(path); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verbTimeout)
	defer cancel()
	machine, err := n.cfg.Driver.Find(ctx, id)
	if err == nil {
		err = machine.InsertMedium(ctx, path)
	}
	if err != nil {
		n.cfg.Logger.Warn("put a medium back that fell out", "instance", id, "error", err)
	}
}
