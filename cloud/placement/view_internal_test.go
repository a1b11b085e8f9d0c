package placement

import (
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Echoes of older writes, which the store's watch brings late, must not bring a removed node back.
func TestLateEchoes(t *testing.T) {
	first := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	record := func(version uint64, enrolled time.Time) *Node {
		return &Node{ID: "node-1", Version: version, EnrolledAt: enrolled}
	}
	echo := func(v *view, n *Node) { v.applyNode(store.Change[Node]{Key: "node-1", Value: n}) }
	var v view
	v.init()
	v.enrolled(record(1, first))
	echo(&v, record(3, first))
	echo(&v, record(2, first))
	if n, _ := v.node("node-1"); n.Version != 3 {
		t.Errorf("version %d, want 3", n.Version)
	}
	wake, stop := v.follow("node-1")
	defer stop()
	v.removed(record(3, first))
	<-wake
	echo(&v, record(3, first))
	if _, ok := v.node("node-1"); ok {
		t.Error("an echo brought a removed node back")
	}
	echo(&v, nil)
	v.enrolled(record(1, first.Add(time.Hour)))
	echo(&v, record(3, first))
	if n, ok := v.node("node-1"); !ok || n.Version != 1 {
		t.Errorf("an echo of the removed node took the place of the new one: %+v", n)
	}
	// Another process took it in again.
	v.removed(record(1, first.Add(time.Hour)))
	echo(&v, record(1, first.Add(2*time.Hour)))
	if _, ok := v.node("node-1"); !ok {
		t.Error("a node that another process took in is not there")
	}
}
