package ec2

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// traceOf is ctx as a part of what led to the instance, unless it is a part of something already: a request, say.
func traceOf(ctx context.Context, inst *Instance) context.Context {
	if journal.Traceparent(ctx) != "" {
		return ctx
	}
	return journal.Join(ctx, inst.Trace)
}

// recordPlacement tells where an instance is to go, as the first of the instance's own step. It is told before the
// instance is written, since its node may be told at once then; when the node has become full meanwhile, another is
// chosen.
func (s *Service) recordPlacement(ctx context.Context, inst *Instance, need placement.Need) {
	s.record(journal.Within(ctx, inst.Trace), "placement.chosen", inst.ID, map[string]string{
		"node": inst.NodeID, "image": inst.ImageName, "memoryMB": strconv.Itoa(need.MemoryMB),
		"vcpus": strconv.Itoa(need.VCPUs),
	})
}

// recordNoPlace tells that no node has room for instances, if that is what err says: how many more were needed, at
// least.
func (s *Service) recordNoPlace(ctx context.Context, need placement.Need, missing int, err error) {
	if !errors.Is(err, placement.ErrNoCapacity) {
		return
	}
	s.record(ctx, "placement.failed", need.Image, map[string]string{
		"memoryMB": strconv.Itoa(need.MemoryMB), "vcpus": strconv.Itoa(need.VCPUs), "count": strconv.Itoa(missing),
		"reason": err.Error(),
	})
}

// recordLaunch tells of an instance that is there now.
func (s *Service) recordLaunch(ctx context.Context, inst *Instance) {
	ctx = journal.Within(ctx, inst.Trace)
	s.recordState(ctx, *inst)
	if inst.Credential != nil {
		s.record(ctx, "instance.credential", inst.ID, auditCredential(inst))
	}
}

// What a node is told of an instance.
const (
	messageRun    = "run"
	messageRemove = "remove"
)

func (s *Service) recordMessage(ctx context.Context, inst *Instance, message string) {
	s.record(journal.Join(ctx, inst.Trace), "node.message", inst.ID, map[string]string{
		"node": inst.NodeID, "message": message, "generation": strconv.FormatUint(inst.Generation, 10),
	})
}

// recordEvents puts what a node tells of its guests into the journal. What it tells of another node's guest, or of a
// kind that is not a node's to tell, is counted and has no other effect.
func (s *Service) recordEvents(ctx context.Context, nodeID string, events []*nodelink.Event) {
	refused := max(0, len(events)-nodelink.MaxEvents)
	for _, ev := range events[:len(events)-refused] {
		kind, id := ev.GetKind(), ev.GetInstanceId()
		e, ok := s.view.get(id)
		if !nodelink.IsEventKind(kind) || !ok || e.inst.NodeID != nodeID {
			refused++
			continue
		}
		attributes := boundedAttributes(ev.GetAttributes())
		attributes["node"] = nodeID
		attributes["at"] = time.Unix(0, ev.GetUnixNanos()).UTC().Format(time.RFC3339Nano)
		// A guest's word on the step counts only within the trace that it is part of.
		step := e.inst.Trace
		if journal.SameTrace(step, ev.GetTraceparent()) {
			step = ev.GetTraceparent()
		}
		s.record(journal.Join(ctx, step), kind, id, attributes)
	}
	if refused > 0 {
		s.record(ctx, "node.report_refused", nodeID, map[string]string{
			"events": strconv.Itoa(refused), "reason": "no events of this node's instances, of no known kind, or too many",
		})
	}
}
