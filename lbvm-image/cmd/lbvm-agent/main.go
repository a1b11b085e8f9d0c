// Command lbvm-agent is the first process of a cloudtwin guest. It does nothing on a running system; the guest images
// of lbvm-image/builder carry it as /init.
package main

import (
	"os"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/guest"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/rehearsal"
)

func main() {
	os.Exit(guest.Main(map[string]guest.Flavour{
		"lbvm": {Run: agent.RunLBVM, Rehearse: rehearsal.LBVM},
		"web":  {Run: agent.RunWeb, Rehearse: rehearsal.Web},
	}))
}
