package controller

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/imds"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// events returns what was told of a kind, as its attributes.
func (c *fakeCloud) events(id, kind string) (told []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.happened {
		if ev.GetInstanceId() == id && ev.GetKind() == kind {
			told = append(told, fmt.Sprint(ev.GetAttributes()))
		}
	}
	return told
}

func wantEvents(t *testing.T, w *world, id, kind string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.cloud.events(id, kind)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", kind, diff)
	}
}

// TestEventsOfAGuest are told in their order, once, also when the cloud was away.
func TestEventsOfAGuest(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		inst := w.instance("web")
		id := inst.GetId()
		w.cloud.run(inst)
		pass(time.Second)
		w.driver.machine(id).say(t, stage("booted", 1))
		asked := imds.Request{InstanceID: id, Method: "GET", Path: "/latest/user-data", Status: 404, Traceparent: "tp"}
		c.MetadataAsked(asked)
		c.MetadataAsked(imds.Request{Path: "/nobody/s"})
		asked.Method, asked.Path, asked.Status = "PUT", "/"+strings.Repeat("x", 300), 405
		w.cloud.cut(true)
		pass(time.Second)
		c.MetadataAsked(asked)
		w.cloud.cut(false)
		pass(20 * time.Second)
		wantEvents(t, w, id, nodelink.EventMetadata, "map[path:/latest/user-data status:404]",
			"map[method:PUT path:/"+strings.Repeat("x", maxPath-1)+"... status:405]")
		w.cloud.mu.Lock()
		if step := w.cloud.happened[len(w.cloud.happened)-1].GetTraceparent(); step != "tp" {
			t.Errorf("the step is %q", step)
		}
		w.cloud.mu.Unlock()

		w.network.count(id, vnet.Counters{ReceivedFrames: 3, ReceivedBytes: 300, SpoofedMAC: 1})
		pass(3 * countPause)
		w.network.count(id, vnet.Counters{ReceivedFrames: 4, ReceivedBytes: 360, SpoofedMAC: 1})
		w.driver.machine(id).say(t, stage("tls-handshakes", 9, "listener", "443", "begun", "2"))
		w.driver.machine(id).end(hypervisor.Crashed, "panicked")
		pass(5 * time.Second)
		wantEvents(t, w, id, nodelink.EventFrames, "map[in:3 inBytes:300 spoofed-mac:1]",
			"map[in:4 inBytes:360 spoofed-mac:1]")
		wantEvents(t, w, id, nodelink.EventTLS, "map[begun:2 listener:443 t:9.000]")
		wantEvents(t, w, id, nodelink.EventMachine, "map[reason:panicked state:crashed]",
			"map[reason:destroyed state:gone]")
		if strings.Contains(w.cloud.told(id), "tls-handshakes") {
			t.Error("handshakes are told as a milestone")
		}
	})
}

// TestRequestsOfAGuestAreBounded asks many times what is told and finds the rest counted.
func TestRequestsOfAGuestAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		inst := w.instance("web")
		w.cloud.run(inst)
		pass(time.Second)
		for range 1000 {
			c.MetadataAsked(imds.Request{InstanceID: inst.GetId(), Method: "GET", Path: "/", Status: 200})
		}
		pass(time.Second)
		c.MetadataAsked(imds.Request{InstanceID: inst.GetId(), Method: "GET", Path: "/", Status: 200})
		pass(time.Second)
		told := w.cloud.events(inst.GetId(), nodelink.EventMetadata)
		if len(told) != requestBurst+1 || told[requestBurst] != "map[path:/ status:200 untold:900]" {
			t.Errorf("%d were told, the last %s", len(told), told[len(told)-1])
		}
	})
}

// TestWhatThereIsNoRoomForIsCounted fills the memory of a node whose cloud is away.
func TestWhatThereIsNoRoomForIsCounted(t *testing.T) {
	var h happenings
	for range nodelink.MaxEvents + 7 {
		h.add(&nodelink.Event{Kind: nodelink.EventFrames, InstanceId: "i-1"})
	}
	events := h.take()
	if len(events) != nodelink.MaxEvents {
		t.Fatalf("%d events", len(events))
	}
	h.putBack(events)
	h.add(&nodelink.Event{Kind: nodelink.EventFrames, InstanceId: "i-1"})
	if again := h.take(); len(again) != nodelink.MaxEvents {
		t.Errorf("%d events", len(again))
	}
	rest := h.take()
	if len(rest) != 1 || rest[0].GetKind() != nodelink.EventsLost || rest[0].GetAttributes()["count"] != "8" {
		t.Errorf("the rest is told as %v", rest)
	}
}

// TestFramesAreCountedInTurns has more guests than are told of at once.
func TestFramesAreCountedInTurns(t *testing.T) {
	c := &Controller{guests: map[string]*guest{}, log: slog.New(slog.DiscardHandler)}
	network := newFakeNetwork()
	c.cfg.Network, c.cfg.Trouble = network, noTrouble{}
	c.reports.init()
	const all = countGuests + 10
	for i := range all {
		id := fmt.Sprintf("i-%04d", i)
		c.guests[id] = newGuest(c, record{Instance: &nodelink.Instance{Id: id}})
		network.count(id, vnet.Counters{SentFrames: 1})
	}
	last := c.countSome("")
	if n := len(c.happenings.take()); n != countGuests {
		t.Errorf("%d guests were told of at once", n)
	}
	c.countSome(last)
	if n := len(c.happenings.take()); n != all-countGuests {
		t.Errorf("%d guests were told of then", n)
	}
	c.countSome(last)
	if n := len(c.happenings.take()); n != 0 {
		t.Errorf("%d guests were told of though nothing changed", n)
	}
}
