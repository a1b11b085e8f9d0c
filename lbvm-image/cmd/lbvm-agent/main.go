// Command lbvm-agent is the first process of a cloudtwin guest. It does nothing on a running system; the guest images
// of lbvm-image/builder carry it as /init.
package main

import (
	"os"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/guest"
)

func main() {
	os.Exit(guest.Main(map[string]guest.Run{
		"lbvm": agent.RunLBVM,
		"web":  agent.RunWeb,
	}))
}
