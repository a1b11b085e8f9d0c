package replay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// load puts the records of before into the state folder, for a cloud to start on, and keeps the secrets of the access
// keys among them: test keys' in the place of the recorded cloud's.
func (w *world) load(ctx context.Context, before *Before) (err error) {
	layout := w.cfg.Layout
	if err := errors.Join(local.Remove(ctx, layout), local.Prepare(layout),
		os.MkdirAll(layout.Cloud(), 0o700)); err != nil {
		return fmt.Errorf("empty the replay's state folder: %w", err)
	}
	s, err := store.Open(ctx, store.Config{Dir: layout.Cloud()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rootKey := filepath.Join(layout.Cloud(), iam.RootKeyFileName)
	if err := before.Records.Load(ctx, s, rootKey); err != nil {
		return err
	}
	secrets, err := iam.OperatorSecrets(ctx, s, rootKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecording, err)
	}
	for name, secret := range secrets {
		id := name[strings.LastIndexByte(name, ' ')+1:]
		w.keys[id] = credential{id: id, secret: string(secret)}
	}
	return nil
}

// settlePause is how long nothing must happen to what was there before, once all of it serves: then it has settled.
const settlePause = 300 * time.Millisecond

// build builds what there was before the first step: first what had settled, and returns when it has here; then the
// faults begin that were active, and what had not settled starts.
func (p *player) build(ctx context.Context) error {
	before := p.recording.Before
	if before == nil {
		return nil
	}
	early := map[string]bool{} // names of guests
	for _, settled := range []bool{true, false} {
		if err := p.adopt(ctx, before, settled, early); err != nil {
			return fmt.Errorf("build what there was before the recording: %w", err)
		}
		if !settled {
			break
		}
		if err := p.settle(ctx, early); err != nil {
			return err
		}
		for i := range before.Faults {
			if err := p.begin(ctx, &before.Faults[i]); err != nil {
				return err
			}
		}
	}
	p.began = time.Now()
	return nil
}

// adopt hands instances and load balancers to the new cloud: those that had settled, or the others.
func (p *player) adopt(ctx context.Context, before *Before, settled bool, early map[string]bool) error {
	for i := range before.Instances {
		inst := before.Instances[i]
		if before.booting[inst.ID] == settled {
			continue
		}
		p.live.learnGuest("instance "+inst.ID, inst.ID)
		if lives(&inst) {
			inst.UserData = p.userDataOf(&inst)
			early["instance "+inst.ID] = settled
		}
		if err := p.world.twin.AdoptInstance(ctx, inst); err != nil {
			return err
		}
	}
	for i := range before.LoadBalancers {
		lb := before.LoadBalancers[i]
		if before.settled(&lb) != settled {
			continue
		}
		address, err := p.world.twin.AdoptLoadBalancer(ctx, lb)
		if err != nil {
			return err
		}
		p.replaced.ids[lb.Address] = address
		if settled {
			p.expectVMs(&lb, early)
		}
	}
	return nil
}

// expectVMs notes the VMs that a load balancer had when the recording began.
func (p *player) expectVMs(lb *elb.LoadBalancer, early map[string]bool) {
	names := p.recording.trace.names
	for _, vm := range lb.LBVMs {
		if !p.recording.Before.booting[vm.InstanceID] {
			early[names.of[vm.InstanceID]] = true
		}
	}
}

// userDataOf stands for what a user gave: our web image takes the port from there on which it served.
func (p *player) userDataOf(inst *ec2.Instance) []byte {
	port := p.replaced.ports[inst.ID]
	for _, m := range inst.Milestones {
		if m.Stage == "serving" && m.Attributes["port"] != "" {
			port = m.Attributes["port"]
		}
	}
	data := []byte(strings.Repeat("#", len(inst.UserData)))
	if line := "port: " + port + "\n"; port != "" && port != webPort && len(line) < len(data) {
		copy(data, line)
	}
	return data
}

// settle returns when the guests of those names serve, and nothing more happens to them; what they went through until
// then is forgotten. One that does not serve within the patience may not have done so in the recording either.
func (p *player) settle(ctx context.Context, early map[string]bool) error {
	if len(early) == 0 {
		return nil
	}
	serving := func() bool {
		for name, wanted := range early {
			if wanted && !p.live.trace.serves(name, p.recording.listenersOf(name)) {
				return false
			}
		}
		return true
	}
	if _, err := p.live.await(ctx, p.patience, serving); err != nil {
		return err
	}
	for deadline := time.Now().Add(p.patience); time.Now().Before(deadline); {
		lines := 0
		quiet, err := p.live.await(ctx, settlePause, func() bool {
			now := p.live.trace.lines()
			changed := lines > 0 && now != lines
			lines = now
			return changed
		})
		if err != nil {
			return err
		}
		if !quiet {
			break
		}
	}
	p.live.forget(early)
	return nil
}

// listenersOf are the ports on which a load balancer's VM is to serve; none for other guests.
func (r *Recording) listenersOf(guest string) (ports []string) {
	_, key, ok := strings.Cut(guest, " of load balancer ")
	if !ok {
		return nil
	}
	for i := range r.Before.LoadBalancers {
		if lb := &r.Before.LoadBalancers[i]; balancerKey(lb) == key {
			for _, l := range lb.Listeners {
				ports = append(ports, strconv.Itoa(l.Port))
			}
		}
	}
	return ports
}

// serves says whether a guest serves: on all of the ports, or at all.
func (t *trace) serves(guest string, ports []string) bool {
	told := func(track string) bool {
		return slices.ContainsFunc(t.tracks[guest+": "+track], func(l line) bool {
			return strings.HasPrefix(l.text, "serving")
		})
	}
	for _, port := range ports {
		if !told("listener " + port) {
			return false
		}
	}
	return len(ports) > 0 || told("stages")
}

// lines counts what was told.
func (t *trace) lines() (n int) {
	for _, lines := range t.tracks {
		n += len(lines)
	}
	return n
}

// learnGuest gives a guest a name before it does anything.
func (l *live) learnGuest(name, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trace.names.of[id] = name
}

// forget drops what guests of those names went through, and begins the clock anew.
func (l *live) forget(guests map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = time.Now()
	for track := range l.trace.tracks {
		if guest, _, ok := strings.Cut(track, ": "); ok && guests[guest] {
			delete(l.trace.tracks, track)
		}
	}
}
