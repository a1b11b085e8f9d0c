package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

// site is a node of a trial, and where its keys may lie.
type site struct {
	layout local.Layout
	node   *local.Node // nil for the node in the cloud's own folder
	media  *leakscan.Media
}

func nodeName(n int) string { return "node-" + strconv.Itoa(n+1) }

// nodeNames are those of a trial's nodes.
func (c Config) nodeNames() (names []string) {
	for n := range c.Nodes {
		names = append(names, nodeName(n))
	}
	return names
}

// startNodes starts the nodes but the first, which the cloud brings, and watches the media of all. closeNodes must be
// called whatever the outcome.
func (t *trial) startNodes(ctx context.Context, dir string) error {
	for n, name := range t.cfg.nodeNames() {
		s := &site{layout: t.layout}
		if n > 0 {
			s.layout = local.Layout(filepath.Join(dir, "n"+strconv.Itoa(n+1)))
			token, err := t.twin.NewNodeToken(ctx)
			if err != nil {
				return fmt.Errorf("make a token for %s: %w", name, err)
			}
			if s.node, err = local.StartNode(ctx, local.NodeConfig{Layout: s.layout, Images: t.cfg.Images, ID: name,
				Cloud: t.twin.NodeLink(), Token: token, Guests: local.Guests{Mode: t.cfg.Guests}, MediumLife: mediumLife,
			}); err != nil {
				return fmt.Errorf("start %s: %w", name, err)
			}
		}
		t.sites = append(t.sites, s)
		if err := t.twin.AwaitFaultNode(ctx, name); err != nil {
			return err
		}
		var err error
		if s.media, err = leakscan.WatchMedia(filepath.Join(s.layout.Media(), "media")); err != nil {
			return err
		}
	}
	return nil
}

// closeNodes ends the nodes that startNodes started, and removes what they left.
func (t *trial) closeNodes() error {
	var errs []error
	for _, s := range t.sites {
		if s.media != nil {
			errs = append(errs, s.media.Close())
		}
		if s.node != nil {
			errs = append(errs, s.node.Close(), local.Remove(context.Background(), s.layout))
		}
	}
	return errors.Join(errs...)
}

// stateKeys are the keys of the cloud, of all nodes, and of all media that there were.
func (t *trial) stateKeys(ctx context.Context) ([]leakscan.Key, error) {
	keys, err := leakscan.StateKeys(ctx, t.layout.Cloud(), filepath.Join(string(t.layout), "no-node"))
	if err != nil {
		return nil, err
	}
	more, err := t.nodeKeys(ctx)
	return append(keys, more...), err
}

// nodeKeys are those of all nodes, and of all media that there were.
func (t *trial) nodeKeys(ctx context.Context) (keys []leakscan.Key, err error) {
	for _, s := range t.sites {
		more, err := leakscan.StateKeys(ctx, filepath.Join(string(s.layout), "no-cloud"), s.layout.Node())
		if err != nil {
			return nil, err
		}
		media, err := s.media.Keys()
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
		for _, key := range media {
			keys = append(keys, key.Clone()) // each look wipes what it looked for
		}
	}
	return keys, nil
}
