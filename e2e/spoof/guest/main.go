// Command guest is the first process of the spoofing suite's guests: a load-balancer VM is what it always is, a web
// guest takes orders about its network card beside serving (package station).
package main

import (
	"context"
	"os"

	"github.com/cloudtwin/cloudtwin/e2e/spoof/station"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/guest"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/rehearsal"
)

func main() {
	os.Exit(guest.Main(map[string]guest.Flavour{
		"lbvm": {Run: agent.RunLBVM, Rehearse: rehearsal.LBVM},
		"web":  {Run: runWeb, Rehearse: rehearsal.Web},
	}))
}

func runWeb(ctx context.Context, world agent.World) error {
	go func() {
		if err := station.Serve(ctx, world.Listen); err != nil {
			world.Logger.Error("no orders can be taken", "error", err)
		}
	}()
	return agent.RunWeb(ctx, world)
}
