package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/rehearsal"
)

// templateWord on the kernel's command line makes the guest a template: it gets ready for its medium without using the
// network or any randomness that it keeps, and is saved there. The machines copied from it go on with a medium each.
const templateWord = "cloudtwin.template"

const loopbackAnyPort = "127.0.0.1:0"

// bootTemplate makes the World of a template. Nothing in it may tell two copies apart, and nothing that must differ
// between them may be in it.
func (m *machine) bootTemplate(ctx context.Context, flavour Flavour) (agent.World, error) {
	loader, err := newLoader(m.modules[0], m.modules[1:]...)
	if err != nil {
		return agent.World{}, err
	}
	loader.run()
	m.finishModules(ctx, loader)
	card, err := bringUp(loader)
	if err != nil {
		return agent.World{}, err
	}
	disk := newMedium(m.logger)
	if err := disk.getReady(); err != nil {
		return agent.World{}, err
	}
	rehearse := func(ctx context.Context, seed []byte) { m.rehearseCopy(ctx, flavour, card, seed) }
	if err := m.warmUp(ctx, flavour); err != nil {
		return agent.World{}, err
	}
	world := m.world()
	world.Medium = &rehearsingMedium{medium: disk, rehearse: rehearse}
	world.Become = func(ctx context.Context, boot keydelivery.Boot) error { return m.become(ctx, card, boot) }
	return world, nil
}

// settleTime is how long a template rests before it is saved, so that what the kernel puts off for a while (a link's
// coming up takes a second to be told to everybody) is not done by each copy.
const settleTime = 1500 * time.Millisecond

// warmUp does everything once that is slow the first time.
func (m *machine) warmUp(ctx context.Context, flavour Flavour) error {
	m.rehearse(ctx, flavour, rehearsal.Stage{Network: rehearsal.InMemory()})
	// The first listener makes the net package find out what the kernel can do. Nobody connects to it.
	if l, err := listen("tcp", loopbackAnyPort); err == nil {
		_ = l.Close()
	}
	makeThreads(spareThreads)
	if !sleep(ctx, settleTime) {
		return context.Cause(ctx)
	}
	runtime.GC()
	runtime.GC() // the second one frees what the first one's finalizers held
	return nil
}

// spareThreads are as many as a guest that starts has in system calls at once.
const spareThreads = 4

// makeThreads makes the runtime have n threads that wait for work: each of these goroutines needs one of its own.
func makeThreads(n int) {
	var there, gone sync.WaitGroup
	leave := make(chan struct{})
	there.Add(n)
	for range n {
		gone.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			there.Done()
			<-leave
		})
	}
	there.Wait()
	close(leave)
	gone.Wait()
}

// rehearse plays the guest's life. What is not warm is slow; it works all the same.
func (m *machine) rehearse(ctx context.Context, flavour Flavour, stage rehearsal.Stage) {
	stage.Files = func(contents map[string][]byte) fs.FS { return &memoryFS{files: contents} }
	if err := flavour.Rehearse(ctx, stage); err != nil {
		m.logger.Warn("rehearsal", "error", err)
	}
}

// rehearseCopy is for a copy that is kept in store: its new QEMU has to translate all code anew, the kernel's too. The
// seed makes it differ from its siblings before the kernel makes secrets of its own.
func (m *machine) rehearseCopy(ctx context.Context, flavour Flavour, card string, seed []byte) {
	defer clear(seed)
	if err := addEntropy(seed); err != nil {
		m.logger.Warn("rehearsal", "error", err)
		return
	}
	m.rehearse(ctx, flavour, rehearsal.Stage{Network: rehearsal.Loopback(listen), Brief: true})
	if err := rehearseAddress(card); err != nil {
		m.logger.Warn("rehearsal", "error", err)
	}
	m.console.Milestone(agent.StageRehearsed)
}

// rehearseAddress goes through the card's settings, with the hardware address that it has and an IP address that it
// loses again.
func rehearseAddress(card string) error {
	links, err := openLinks()
	if err != nil {
		return err
	}
	defer links.close()
	mac, err := links.hardwareAddr(card)
	if err != nil {
		return err
	}
	if err := links.setHardwareAddr(card, mac); err != nil {
		return err
	}
	if _, err := askAddress(card, mac, time.Millisecond); !errors.Is(err, errNoAnswer) {
		return fmt.Errorf("somebody answered a rehearsal: %w", err)
	}
	gateway := netip.AddrFrom4([4]byte{169, 254, 0, 1})
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if err := links.apply(card, address{
		prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 0, 2}), 32), hostname: "rehearsal",
		routes: []route{{dest: netip.PrefixFrom(gateway, 32)}, {dest: everywhere, gateway: gateway}},
	}); err != nil {
		return err
	}
	return links.dropAddress(card)
}

// rehearsingMedium is the drive of a template and its copies. A medium with keydelivery.RehearsalFile is no identity
// but a wish that the copy rehearse; it then waits for the medium that it is for.
type rehearsingMedium struct {
	*medium
	rehearse func(ctx context.Context, seed []byte)
}

// Open implements agent.MediumSource.
func (r *rehearsingMedium) Open(ctx context.Context) (fs.FS, error) {
	for {
		files, err := r.medium.Open(ctx)
		if err != nil {
			return nil, err
		}
		seed, err := fs.ReadFile(files, keydelivery.RehearsalFile)
		if err != nil {
			return files, nil
		}
		r.rehearse(ctx, seed)
	}
}

// become gives a copy what the template could not have: the clock, which stood still while the template was a file;
// the card's address; IP address and name.
func (m *machine) become(ctx context.Context, card string, boot keydelivery.Boot) error {
	if !boot.Time.IsZero() {
		if err := setClock(boot.Time); err != nil {
			return err
		}
	}
	if err := setMAC(card, boot); err != nil {
		return err
	}
	addr, err := m.obtainAddress(ctx, card)
	if err != nil {
		return err
	}
	m.console.Milestone(agent.StageNetwork, slog.String("addr", addr))
	return nil
}

func setMAC(card string, boot keydelivery.Boot) error {
	mac, err := boot.HardwareAddr()
	if err != nil || mac == nil {
		return err
	}
	links, err := openLinks()
	if err != nil {
		return err
	}
	defer links.close()
	return links.setHardwareAddr(card, mac)
}
