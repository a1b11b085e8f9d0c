package ec2

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Bounds of what a node may tell about an instance; a guest's console is where most of it comes from.
const (
	maxReason     = 4096
	maxStage      = 64
	maxAttributes = 16
	maxAttribute  = 600
)

// The states that a node reports.
const (
	nodeRunning = "running"
	nodeStopped = "stopped"
	nodeFailed  = "failed"
)

// handleReport works a node's report into the records. An error means that the store did not take it.
func (s *Service) handleReport(ctx context.Context, nodeID string, report *nodelink.Report) error {
	var st *placement.Status
	if n := report.GetNode(); n != nil {
		st = &placement.Status{
			MemoryMBTotal: clampInt(n.GetMemoryMbTotal()), MemoryMBFree: clampInt(n.GetMemoryMbFree()),
			Cores: int(min(n.GetCores(), 1<<16)), Hypervisor: bounded(n.GetHypervisor(), 128),
			Accelerator: bounded(n.GetAccelerator(), 16), Images: n.GetImages(),
			GuestFixedMB:       clampInt(uint64(n.GetGuestFixedMb())),
			GuestMemoryPercent: clampInt(uint64(n.GetGuestMemoryPercent())),
		}
	}
	if err := s.cfg.Placement.Report(ctx, nodeID, st); err != nil {
		return err
	}
	// First: a guest's milestone may be what came of them.
	s.recordEvents(ctx, nodeID, report.GetEvents())
	told := make(map[string]bool, len(report.GetInstances()))
	for _, is := range report.GetInstances() {
		told[is.GetInstanceId()] = true
		if err := s.handleStatus(ctx, nodeID, is); err != nil {
			return err
		}
	}
	if !report.GetFirst() {
		return nil
	}
	return s.endMissing(ctx, nodeID, told)
}

// endMissing ends the instances that the node should know and does not: the first report names all that it has.
// One that is pending was placed while the node was away, and starts with the snapshot.
func (s *Service) endMissing(ctx context.Context, nodeID string, told map[string]bool) error {
	for _, e := range s.view.onNode(nodeID) {
		if told[e.inst.ID] || e.inst.State == Pending {
			continue
		}
		if err := s.end(ctx, e.inst.ID, StateReason{
			Code: reasonServer, Message: "the guest was gone when its node came back",
		}); err != nil {
			return err
		}
	}
	return nil
}

// handleStatus works in what a node says of one instance. What it says of another node's instance is recorded and
// has no other effect.
func (s *Service) handleStatus(ctx context.Context, nodeID string, is *nodelink.InstanceStatus) error {
	id := is.GetInstanceId()
	e, ok := s.view.get(id)
	if !ok || e.inst.NodeID != nodeID {
		reason := "the instance is not this node's"
		if !ok {
			reason = "there is no such instance"
		}
		s.record(ctx, "node.report_refused", nodeID, map[string]string{
			"instance": bounded(id, 64), "reason": reason, "state": bounded(is.GetState(), 16),
		})
		return nil
	}
	ctx = journal.Join(ctx, e.inst.Trace)
	milestones := parseMilestones(is.GetMilestones())
	if !tellsNews(&e.inst, is, milestones) {
		return nil
	}
	var added []Milestone
	var before State
	var heard []*identityEvent
	inst, err := s.update(ctx, id, func(tx *store.Tx, inst *Instance) error {
		before = inst.State
		inst.Milestones, added = mergeMilestones(inst.Milestones, milestones)
		if path := bounded(is.GetConsolePath(), 1024); path != "" {
			inst.ConsolePath = path
		}
		heard = inst.hearAll(added, s.images, s.cfg.Clock())
		return s.applyState(tx, inst, is)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, m := range added {
		s.recordMilestone(ctx, inst, m)
	}
	for _, ev := range heard {
		s.record(ctx, ev.kind, inst.ID, ev.attributes)
	}
	if inst.State != before {
		if inst.Reason.Message == reasonExpired || strings.HasPrefix(inst.Reason.Message, reasonExpired+":") {
			s.recordExpiry(ctx, &inst)
		}
		s.recordState(ctx, inst)
	}
	return nil
}

// hearAll takes in what new milestones mean for the instance's credential and identity.
func (i *Instance) hearAll(added []Milestone, images imageTable, now time.Time) (heard []*identityEvent) {
	for _, m := range added {
		ends := i.endsCredential(m)
		if ev := i.hear(m, images, now); ev != nil {
			heard = append(heard, ev)
		}
		if ends {
			i.Credential = nil
		}
	}
	return heard
}

// endsCredential says whether m is its node's word that the medium of the current credential is gone for good.
func (i *Instance) endsCredential(m Milestone) bool {
	if m.Stage != nodelink.StageMediumWiped || m.fromGuest() ||
		m.Attributes["credential"] != wireCredential(i.Credential).Fingerprint() {
		return false
	}
	switch m.Attributes["reason"] {
	case nodelink.WipedRead, nodelink.WipedExpired, nodelink.WipedEnded:
		return true
	}
	return false
}

// tellsNews spares the store what a node tells again, as it does whenever it connects.
func tellsNews(inst *Instance, is *nodelink.InstanceStatus, milestones []Milestone) bool {
	if _, added := mergeMilestones(inst.Milestones, milestones); len(added) > 0 {
		return true
	}
	if path := is.GetConsolePath(); path != "" && path != inst.ConsolePath {
		return true
	}
	switch is.GetState() {
	case nodeRunning:
		return inst.State == Pending
	case nodeStopped, nodeFailed:
		return inst.State != Terminated
	}
	return false
}

// applyState moves the instance forward; a node's word never moves one back.
func (s *Service) applyState(tx *store.Tx, inst *Instance, is *nodelink.InstanceStatus) error {
	var reason StateReason
	switch is.GetState() {
	case nodeRunning:
		if inst.State == Pending {
			inst.State = Running
		}
		return nil
	case nodeStopped:
		reason = StateReason{Code: reasonInstance, Message: "Instance initiated shutdown"}
	case nodeFailed:
		reason = StateReason{Code: reasonServer, Message: "the guest failed"}
		if inst.State == Pending {
			reason.Message = "the guest could not be started"
		}
	default:
		return nil
	}
	why := bounded(is.GetReason(), maxReason)
	if inst.expired(why, s.cfg.Clock()) {
		reason.Message = reasonExpired
	}
	if why != "" {
		reason.Message += ": " + why
	}
	if err := s.finish(tx, inst, reason); err != nil && !errors.Is(err, errUnchanged) {
		return err
	}
	return nil
}

func (s *Service) recordMilestone(ctx context.Context, inst Instance, m Milestone) {
	attributes := make(map[string]string, len(m.Attributes)+3)
	for k, v := range m.Attributes {
		attributes[k] = v
	}
	attributes["stage"], attributes["node"] = m.Stage, inst.NodeID
	attributes["at"] = m.Time.UTC().Format(time.RFC3339Nano)
	s.record(ctx, "guest.milestone", inst.ID, attributes)
}

// parseMilestones bounds what a node sent.
func parseMilestones(in []*nodelink.Milestone) []Milestone {
	if n := len(in) - nodelink.KeepFirst - nodelink.KeepLast; n > 0 {
		in = append(in[:nodelink.KeepFirst:nodelink.KeepFirst], in[nodelink.KeepFirst+n:]...)
	}
	out := make([]Milestone, 0, len(in))
	for _, m := range in {
		stage := bounded(m.GetStage(), maxStage)
		if stage == "" {
			continue
		}
		out = append(out, Milestone{Stage: stage, Time: time.Unix(0, m.GetUnixNanos()).UTC(),
			Attributes: boundedAttributes(m.GetAttributes())})
	}
	return out
}

// boundedAttributes is a copy of what a node sent, within bounds.
func boundedAttributes(in map[string]string) map[string]string {
	keys := slices.Sorted(maps.Keys(in))
	out := make(map[string]string, len(keys)+3)
	for _, k := range keys[:min(len(keys), maxAttributes)] {
		out[bounded(k, maxStage)] = bounded(in[k], maxAttribute)
	}
	return out
}

// bounded cuts text to at most limit bytes of valid UTF-8.
func bounded(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(text, "")
}

func clampInt(n uint64) int { return int(min(n, 1<<31)) }

// credentialsError tells a node why a role gives no credentials: refused for good, or to be asked again.
func credentialsError(err error) error {
	var known *model.Error
	if errors.As(err, &known) && known.Status < http.StatusInternalServerError {
		if known.Code == "NoSuchEntity" {
			return status.Error(codes.NotFound, "the role is gone")
		}
		return status.Error(codes.FailedPrecondition, "the role may not be assumed")
	}
	return status.Error(codes.Unavailable, "no credentials at the moment")
}
