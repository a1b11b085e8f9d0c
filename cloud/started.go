package cloud

import (
	"context"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// EventStarted is the first that a cloud tells: how it was set up. Whoever plays a recording again needs it.
const EventStarted = "cloud.started"

func (c *Cloud) recordStart(ctx context.Context) {
	names := make([]string, 0, len(c.cfg.Images))
	for _, image := range c.cfg.Images {
		names = append(names, image.Name)
	}
	attributes := map[string]string{
		"images": strings.Join(names, " "), "minDeliveryProfile": strconv.Itoa(int(c.cfg.MinDeliveryProfile)),
		"unprivilegedPorts": strconv.FormatBool(c.cfg.UnprivilegedPorts),
	}
	if c.cfg.Replicas > 1 {
		attributes["replicas"] = strconv.Itoa(c.cfg.Replicas)
	}
	if c.cfg.LBCertLife > 0 {
		attributes["lbcertLife"] = c.cfg.LBCertLife.String()
	}
	if c.cfg.TerminatedRetention > 0 {
		attributes["terminatedRetention"] = c.cfg.TerminatedRetention.String()
	}
	c.journal.Record(ctx, journal.Event{Time: c.cfg.Clock(), Kind: EventStarted, Subject: c.cfg.Region,
		Attributes: attributes})
}
