package controller

import (
	"sync/atomic"
	"testing"
	"time"
)

// skewed is a node whose clock is off.
type skewed struct {
	noTrouble

	by atomic.Int64 // nanoseconds
}

func (s *skewed) Now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

// TestClockSkew shows that a wrong clock is the node's own in what it decides: when it asks for new credentials.
func TestClockSkew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		clock := &skewed{}
		w.change = func(cfg *Config) { cfg.Trouble = clock }
		c, stop := w.start()
		defer stop()
		inst := w.instance("web")
		w.cloud.run(inst)
		pass(time.Second)
		for _, step := range []struct {
			skew time.Duration
			want string
		}{{0, "ASIA1"}, {-2 * time.Hour, "ASIA1"}, {2 * time.Hour, "ASIA2"}, {0, "ASIA2"}} {
			clock.by.Store(int64(step.skew))
			got, err := c.RoleCredentials(t.Context(), inst.GetId())
			if err != nil || got.AccessKeyID != step.want {
				t.Errorf("with the clock off by %s: credentials %v, %v; want %s", step.skew, got, err, step.want)
			}
		}
	})
}
